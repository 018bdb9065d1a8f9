from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import assert_a_request_overtakes, assert_order_is_kept
from models import SPECIAL_TOKENS, shop_texts, tiny_adapter, tiny_llama
from patience import TIMEOUT

from labelstream.actors.label_engine import LabelEngine
from labelstream.actors.vllm_engine import VllmEngine
from labelstream.schemas.errors import BadRecord, MissingDependency, ModelUnavailable, ModelUnusable
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.prompt_encoder import EncodedPrompt, PromptEncoder
from labelstream.schemas.scale import LabelScale, label_distribution
from labelstream.schemas.settings import Settings

pytestmark = [
    pytest.mark.engine,
    # vLLM looks at every name of torch.distributed, some of which torch calls deprecated.
    pytest.mark.filterwarnings("ignore:`torch.distributed.reduce_op` is deprecated:FutureWarning"),
]

Pairs = tuple[list[str], list[str]]

QUERIES = ["red sofa", "oak table", "a lamp of glass", "pink velvet chair"]


def settings_of(model: Path, **labeller: Any) -> Settings:
    options = {"model": str(model), "dtype": "float32", "cache_gigabytes": 0.1, "max_sequences": 16, **labeller}
    return Settings.load(labeller=options)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[LabelEngine]:
    loaded = LabelEngine(settings_of(model))
    yield loaded
    loaded.close()


@pytest.fixture
def pairs() -> Pairs:
    """64 pairs; the queries come mixed, as in a log."""
    products = shop_texts()[::10]
    return [QUERIES[i * 7 % len(QUERIES)] for i in range(len(products))], products


def log_probabilities(model: Path, queries: list[str], products: list[str]) -> np.ndarray:
    """What transformers says of the same prompts, one by one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    encoder = PromptEncoder(Prompt(LabelScale()), AutoTokenizer.from_pretrained(model), 511)
    llama = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    rows = []
    for entry in encoder.encode(queries, products):
        assert isinstance(entry, EncodedPrompt)
        with torch.no_grad():
            logits = llama(torch.tensor([entry.token_ids])).logits[0, -1]
        rows.append(torch.log_softmax(logits, -1)[list(encoder.label_token_ids)].tolist())
    return np.array(rows)


def test_probabilities_are_those_of_transformers_on_the_same_token_ids(engine: LabelEngine, model: Path, pairs: Pairs):
    judgements = engine.judge(*pairs).result(TIMEOUT)
    expected = label_distribution(log_probabilities(model, *pairs))
    assert judgements.probabilities.dtype == np.float32
    np.testing.assert_allclose(judgements.probabilities, expected, atol=2e-4)
    assert expected.max(axis=1).std() > 0.01, "a model that always says the same would prove nothing"
    assert not judgements.errors
    assert not judgements.shortened.any()


def test_order_is_kept_when_many_batches_are_under_way(engine: LabelEngine, pairs: Pairs):
    assert_order_is_kept(engine, pairs, callers=12, atol=2e-4)


def test_pair_that_cannot_be_judged_is_an_error_at_its_index(engine: LabelEngine):
    queries = ["red sofa", "sofa " * 600, "oak table"]
    judgements = engine.judge(queries, shop_texts()[:3]).result(TIMEOUT)
    assert list(judgements.errors) == [1]
    assert isinstance(judgements.errors[1], BadRecord)
    assert judgements.errors[1].field == "user_query"
    assert np.isnan(judgements.probabilities[1]).all()
    np.testing.assert_allclose(judgements.probabilities[[0, 2]].sum(axis=1), 1, atol=1e-6)


def test_long_product_is_shortened_and_said_to_be(engine: LabelEngine):
    judgements = engine.judge(["sofa", "sofa"], ["Title: sofa\n", "Title: sofa\n" + "velvet " * 900]).result(TIMEOUT)
    assert judgements.shortened.tolist() == [False, True]
    assert np.isfinite(judgements.probabilities).all()


def test_empty_batch(engine: LabelEngine):
    judgements = engine.judge([], []).result(TIMEOUT)
    assert judgements.probabilities.shape == (0, 3)


def test_batch_of_nothing_but_errors(engine: LabelEngine):
    judgements = engine.judge(["sofa " * 600], ["Title: sofa\n"]).result(TIMEOUT)
    assert list(judgements.errors) == [0]


def test_unequal_columns_are_refused(engine: LabelEngine):
    with pytest.raises(ValueError, match="2 queries but 1 products"):
        engine.judge(["a", "b"], ["c"])


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_special_tokens_in_a_title_never_reach_the_model(engine: LabelEngine, token: str):
    with_token, with_space = f"Title: red{token}sofa\n", "Title: red sofa\n"
    (entry,) = engine._encoder.encode(["red sofa"], [with_token])
    special = set(engine._encoder.tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))
    assert not special & set(entry.token_ids[1:])  # the first one is our own begin of text
    probabilities = engine.judge(["red sofa"] * 2, [with_token, with_space]).result(TIMEOUT).probabilities
    np.testing.assert_allclose(probabilities[0], probabilities[1], atol=1e-5)


def test_description_says_what_an_answer_depends_on(engine: LabelEngine):
    description = engine.describe()
    assert description.temperature == 1.0
    assert description.scale_version == LabelScale().version
    assert description.prompt_version.startswith(Prompt(LabelScale()).version)
    assert description.version.model == description.model_version


def test_temperature_and_scale_come_from_the_models_card(tmp_path: Path, pairs: Pairs, engine: LabelEngine):
    model = tiny_llama(tmp_path)
    levels = list(LabelScale().levels)
    (tmp_path / "labelstream.json").write_text(json.dumps({"levels": levels, "temperature": 2.0}))
    calibrated = LabelEngine(settings_of(model))
    try:
        flat, sharp = (e.judge(*pairs).result(TIMEOUT).probabilities for e in (calibrated, engine))
        assert calibrated.describe().temperature == 2.0
        assert calibrated.describe().model_version != engine.describe().model_version
        np.testing.assert_allclose(flat, label_distribution(np.log(sharp), 2.0), atol=2e-4)
    finally:
        calibrated.close()


def test_adapter_by_name_changes_answers_and_version(model: Path, tmp_path: Path, pairs: Pairs, engine: LabelEngine):
    adapter = tiny_adapter(model, tmp_path / "adapter")
    tuned = LabelEngine(settings_of(model, adapter=f"shop={adapter}"))
    try:
        plain, changed = (e.judge(*pairs).result(TIMEOUT).probabilities for e in (engine, tuned))
        assert np.abs(plain - changed).max() > 0.01
        assert tuned.describe().model_version != engine.describe().model_version
    finally:
        tuned.close()


def test_a_request_overtakes_prompts_that_are_inside_vllm(model: Path):
    with closing(VllmEngine(settings_of(model, max_sequences=2), model, [5, 6, 7])) as engine:
        assert_a_request_overtakes(engine)


def test_dead_engine_fails_its_futures(model: Path, pairs: Pairs):
    heard: list[Exception] = []
    doomed = LabelEngine(settings_of(model), on_failure=heard.append)
    with pytest.MonkeyPatch.context() as patch:
        from vllm.v1.engine.llm_engine import LLMEngine

        def broken(_: LLMEngine) -> None:
            raise RuntimeError("device lost")

        patch.setattr(LLMEngine, "step", broken)
        with pytest.raises(ModelUnavailable, match="device lost"):
            doomed.judge(*pairs).result(TIMEOUT)
    doomed.close()
    assert not doomed.healthy
    assert [str(error) for error in heard] == ["device lost"]


class TestRefusals:
    """Each is found before vLLM loads anything."""

    def edit_config(self, folder: Path, **changes: Any) -> Path:
        model = tiny_llama(folder)
        config = json.loads((model / "config.json").read_text()) | changes
        (model / "config.json").write_text(json.dumps(config))
        return model

    def test_neither_a_causal_lm_nor_a_classifier(self, tmp_path: Path):
        model = self.edit_config(tmp_path, architectures=["BertForMaskedLM"])
        with pytest.raises(ModelUnusable, match=r"LABELSTREAM_LABELLER_MODEL.*BertForMaskedLM.*ForCausalLM"):
            LabelEngine(settings_of(model))

    def test_too_few_positions(self, tmp_path: Path):
        model = self.edit_config(tmp_path, max_position_embeddings=256)
        with pytest.raises(ModelUnusable, match="LABELSTREAM_PROMPT_MAX_TOKENS to 255"):
            LabelEngine(settings_of(model))

    def test_tuned_on_another_scale(self, tmp_path: Path):
        model = tiny_llama(tmp_path)
        (tmp_path / "labelstream.json").write_text('{"levels": ["bad", "good"]}')
        with pytest.raises(ModelUnusable, match="LABELSTREAM_SCALE_LEVELS"):
            LabelEngine(settings_of(model))

    def test_label_is_not_one_token(self, tmp_path: Path):
        from tokenizers import Regex, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        model = tiny_llama(tmp_path)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
        # Digits that stick to the line break before them.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\d+"), "removed")
        tokenizer.save_pretrained(model)
        with pytest.raises(ModelUnusable, match="label"):
            LabelEngine(settings_of(model))

    def test_no_tokenizer(self, tmp_path: Path):
        model = tiny_llama(tmp_path)
        (model / "tokenizer.json").unlink()
        with pytest.raises(ModelUnusable, match="tokenizer"):
            LabelEngine(settings_of(model))

    def test_adapter_that_is_not_there(self, model: Path, tmp_path: Path):
        with pytest.raises(ModelUnusable, match="LABELSTREAM_LABELLER_ADAPTER"):
            LabelEngine(settings_of(model, adapter=f"shop={tmp_path}"))

    def test_vllm_is_missing(self, model: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("labelstream.actors.vllm_engine.find_spec", lambda _: None)
        with pytest.raises(MissingDependency, match=r"labelstream\[cpu\]"):
            LabelEngine(settings_of(model))
        with pytest.raises(MissingDependency, match=r"labelstream\[gpu\]"):
            LabelEngine(settings_of(model, gpus=1))
