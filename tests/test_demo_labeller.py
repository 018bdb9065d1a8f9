"""The demo labeller: its pairs, its vocabulary, a short training run, and what it leaves on disk."""

from __future__ import annotations

import json
import stat
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaForCausalLM

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.model_card import ModelCard, read_card
from labelstream.schemas.product import Product, product_text
from labelstream.schemas.prompt import Prompt, neutralise
from labelstream.schemas.prompt_encoder import PromptEncoder
from labelstream.schemas.scale import LabelScale
from labelstream.training import demo_labeller
from labelstream.training.demo_catalogue import QueryIntent, demo_catalogue
from labelstream.training.demo_labeller import (
    evaluation_pairs,
    held_out_agreement,
    tiny_random_labeller,
    train_demo_labeller,
)
from labelstream.training.demo_model import label_log_probabilities
from labelstream.training.demo_pairs import Split, demo_pairs, split_of
from labelstream.training.demo_tokenizer import BEGIN, END, PAD

PROMPT = Prompt(LabelScale())
CATALOGUE = demo_catalogue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained demo labeller."""
    path = tmp_path_factory.mktemp("demo") / "labeller"
    tiny_random_labeller(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path):
    return PromptEncoder(PROMPT, AutoTokenizer.from_pretrained(folder), max_tokens=511)


@pytest.fixture(scope="module")
def model(folder: Path):
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_levels_come_in_turn_and_the_seed_decides():
    pairs = list(islice(demo_pairs(CATALOGUE, "training", seed=3), 300))
    assert [pair.level for pair in pairs] == [0, 1, 2] * 100
    assert pairs == list(islice(demo_pairs(CATALOGUE, "training", seed=3), 300))


def test_no_wording_of_a_held_out_query_is_trained_on():
    def queries(split: Split) -> set[str]:
        pairs = islice(demo_pairs(CATALOGUE, split, seed=1), 3000)
        return {normalise_query(pair.query) for pair in pairs}

    assert not queries("held_out") & queries("training")
    assert not queries("held_out") & queries("validation")


@pytest.mark.parametrize("split", ["validation", "held_out"])
def test_it_is_measured_on_as_many_pairs_of_each_level(split: Split):
    assert Counter(pair.level for pair in evaluation_pairs(split)) == {0: 500, 1: 500, 2: 500}


def test_the_split_does_not_change_between_runs():
    brands = ("Norwick", "Solvane", "Marlowe", "Brindle", "Tarnfield", "Halden")
    assert [split_of(QueryIntent("Scarves", brand)) for brand in brands] == [
        "training",
        "held_out",
        "training",
        "training",
        "training",
        "validation",
    ]
    assert split_of(QueryIntent("Scarves")) == "training"


def test_labels_are_one_token_each(encoder: PromptEncoder):
    assert len(set(encoder.label_token_ids)) == 3
    assert encoder.tokenizer.convert_ids_to_tokens(list(encoder.label_token_ids)) == ["0", "1", "2"]


def test_the_tokenizer_has_its_special_tokens(encoder: PromptEncoder):
    tokenizer = encoder.tokenizer
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BEGIN, END, PAD)
    assert encoder.prefix[0] == tokenizer.bos_token_id


def test_common_words_are_one_token(encoder: PromptEncoder):
    assert encoder.tokenizer.tokenize(" red wool scarf") == ["Ġred", "Ġwool", "Ġscarf"]
    prompts = encoder.encode(["red rug"] * 50, [product_text(product) for product in CATALOGUE[:50]])
    assert max(len(prompt.token_ids) for prompt in prompts) < 128


titles = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(str.strip)


@settings(deadline=None)
@given(query=titles, title=titles)
def test_parts_encoded_one_by_one_are_the_whole_text_encoded(encoder: PromptEncoder, query: str, title: str):
    text = product_text(Product(product_id="1", title=title))
    (encoded,) = encoder.encode([query], [text])
    clean = [neutralise(part, encoder.tokenizer.all_special_tokens) for part in (query, text)]
    whole = PROMPT.text(" ".join(clean[0].split()), clean[1])
    assert encoded.token_ids[1:] == encoder.tokenizer(whole, add_special_tokens=False)["input_ids"]


@settings(deadline=None)
@given(title=titles)
def test_no_text_is_unknown_and_only_case_is_lost(encoder: PromptEncoder, title: str):
    ids = encoder.tokenizer(title, add_special_tokens=False)["input_ids"]
    lowered = encoder.tokenizer.backend_tokenizer.normalizer.normalize_str(title)
    assert encoder.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == lowered


def test_a_saved_model_is_whole_and_small(folder: Path):
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "labelstream.json",
    }
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    levels = ("irrelevant", "moderate", "high")
    assert read_card(folder) == ModelCard(levels=levels, prompt_version=PROMPT.version, kind="generative")
    assert {stat.S_IMODE(path.stat().st_mode) & 0o444 for path in folder.iterdir()} == {0o444}
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] % 64 == 0
    assert config["dtype"] == "bfloat16"


def test_the_seed_decides_the_weights(folder: Path, tmp_path: Path):
    tiny_random_labeller(tmp_path / "same")
    tiny_random_labeller(tmp_path / "other", seed=2)
    weights, same, other = (
        (path / "model.safetensors").read_bytes() for path in (folder, tmp_path / "same", tmp_path / "other")
    )
    assert weights == same != other


def test_sharing_the_instruction_changes_no_answer(model: LlamaForCausalLM, encoder: PromptEncoder):
    pairs = evaluation_pairs("held_out")[:8]
    shared = label_log_probabilities(model, encoder, pairs)
    for pair, found in zip(pairs, shared, strict=True):
        (prompt,) = encoder.encode([pair.query], [pair.product_text])
        with torch.inference_mode():
            logits = model(torch.tensor([prompt.token_ids])).logits[0, -1].log_softmax(dim=-1)
        np.testing.assert_allclose(found, logits[list(encoder.label_token_ids)].numpy(), atol=1e-4)


def test_a_folder_in_use_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep me")
    for make in (tiny_random_labeller, train_demo_labeller):
        with pytest.raises(SettingsError, match="not empty"):
            make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_short_training_run_learns_and_reports(
    tmp_path: Path, model: LlamaForCausalLM, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(demo_labeller, "_EVALUATION_PAIRS", 300)  # most of the time is spent on measuring
    threads = torch.get_num_threads()
    report = train_demo_labeller(tmp_path / "labeller", steps=12)
    assert torch.get_num_threads() == threads
    assert np.sum(report.confusion, axis=1).tolist() == [100, 100, 100]
    assert report.agreement == pytest.approx(np.trace(report.confusion) / 300)
    assert held_out_agreement(tmp_path / "labeller")[:4] == report[:4]

    trained = LlamaForCausalLM.from_pretrained(tmp_path / "labeller", dtype=torch.float32).eval()
    pairs = evaluation_pairs("held_out")[:50]
    before, after = (np.exp(label_log_probabilities(m, encoder, pairs)).sum(axis=1).mean() for m in (model, trained))
    assert before < 0.1 < after  # it has learned that a label comes next, if not yet which
