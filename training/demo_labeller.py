"""The demo's labeller: a small Llama trained from nothing on the made-up shop, in about a minute on one core.

It is as real as its task: the same prompt, the same encoder and the same engine as a large model, a vocabulary
of its own, and agreement measured on queries that it was not trained on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.model_card import ModelCard, make_readable, read_card, write_card
from labelstream.schemas.model_settings import PromptSettings
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.prompt_encoder import PromptEncoder
from labelstream.schemas.scale import LabelScale
from labelstream.training.calibration import fit_temperature
from labelstream.training.demo_catalogue import demo_catalogue
from labelstream.training.demo_model import label_log_probabilities, new_model, train
from labelstream.training.demo_noise import NoiseSource
from labelstream.training.demo_pairs import DemoPair, Split, demo_pairs
from labelstream.training.demo_tokenizer import train_demo_tokenizer

STEPS = 800
BATCH_PAIRS = 64
NOISE_SHARE = 0.35  # of the second half: what to compare is learned first, and what to pass over then

_OTHER_SHOP = 1000  # added to the seed: the model is not trained on the products that the demo sells
_TRAINING_PRODUCTS = 2000
_TOKENIZER_PAIRS = 4000
_EVALUATION_PAIRS = 1500
_EVALUATION_SEED = 1
_MAX_TOKENS = PromptSettings().max_tokens
_PROMPT = Prompt(LabelScale())


class DemoReport(NamedTuple):
    """How well a demo labeller does.

    Attributes:
        agreement: Share of held-out pairs whose most probable level is the true one.
        confusion: Pairs by true level (rows) and most probable level (columns).
        temperature: Fitted on validation pairs.
        parameters: Number of the model's parameters.
        seconds: What training, or for a saved model evaluation, took.
    """

    agreement: float
    confusion: tuple[tuple[int, ...], ...]
    temperature: float
    parameters: int
    seconds: float


def train_demo_labeller(folder: Path, *, seed: int = 1, steps: int = STEPS) -> DemoReport:
    """Train, calibrate, save and measure a demo labeller.

    Args:
        folder: Where the model is to be; it appears there whole or not at all.
        seed: The same seed gives the same training pairs and the same first weights.
        steps: Batches of 64 pairs.

    Returns:
        The report on held-out queries over the demo's own catalogue; training uses another one of the same kind.

    Raises:
        SettingsError: There is something in the folder already.
    """
    _require_free(folder)
    begun = time.monotonic()
    with _reproducible(seed):
        tokenizer, model = _untrained(seed)
        encoder = _encoder(tokenizer)
        noise = NoiseSource(seed, NOISE_SHARE, after=steps // 2 * BATCH_PAIRS)
        train(model, encoder, _training_pairs(seed, noise), steps=steps, batch_pairs=BATCH_PAIRS)
        validation = evaluation_pairs("validation")
        found = label_log_probabilities(model, encoder, validation)
        temperature = fit_temperature(found, np.array([pair.level for pair in validation], dtype=float))
        training = {"seed": seed, "steps": steps, "batch_pairs": BATCH_PAIRS, "noise_share": NOISE_SHARE}
        _save(folder, model, tokenizer, temperature=temperature, trained_at=datetime.now(UTC), training=training)
    return held_out_agreement(folder)._replace(seconds=time.monotonic() - begun)


def tiny_random_labeller(folder: Path, *, seed: int = 1) -> None:
    """Save an untrained model of the same architecture, for tests that need a labeller but no good one.

    Raises:
        SettingsError: There is something in the folder already.
    """
    _require_free(folder)
    with _reproducible(seed):
        tokenizer, model = _untrained(seed)
        _save(folder, model, tokenizer)


def held_out_agreement(folder: Path) -> DemoReport:
    """Measure a saved demo labeller on the held-out pairs, with transformers in float32.

    Raises:
        OSError: The folder holds no model.
    """
    begun = time.monotonic()
    with _no_progress_bars():
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    encoder = _encoder(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    pairs = evaluation_pairs("held_out")
    with _reproducible(_EVALUATION_SEED):
        predicted = label_log_probabilities(model, encoder, pairs).argmax(axis=1)
    confusion = np.zeros((len(_PROMPT.scale.levels),) * 2, dtype=int)
    np.add.at(confusion, ([pair.level for pair in pairs], predicted), 1)
    return DemoReport(
        agreement=float(confusion.trace() / confusion.sum()),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        temperature=read_card(folder).temperature,
        parameters=model.num_parameters(),
        seconds=time.monotonic() - begun,
    )


def evaluation_pairs(split: Split) -> list[DemoPair]:
    """1,500 pairs of the demo's own catalogue, a third of each level, with intents of that split only."""
    return list(islice(demo_pairs(demo_catalogue(), split, seed=_EVALUATION_SEED), _EVALUATION_PAIRS))


def _training_pairs(seed: int, noise: NoiseSource | None = None) -> Iterator[DemoPair]:
    catalogue = demo_catalogue(seed=seed + _OTHER_SHOP, products=_TRAINING_PRODUCTS)
    return demo_pairs(catalogue, "training", seed=seed, noise=noise)


def _untrained(seed: int) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    sample = islice(_training_pairs(seed), _TOKENIZER_PAIRS)
    tokenizer = train_demo_tokenizer(_PROMPT.text(pair.query, pair.product_text) for pair in sample)
    return tokenizer, new_model(tokenizer, max_tokens=_MAX_TOKENS + 1)


def _encoder(tokenizer: Any) -> PromptEncoder:
    return PromptEncoder(_PROMPT, tokenizer, max_tokens=_MAX_TOKENS)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seeded, and on one thread: where cores are shared, threads that wait for each other are far slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _require_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"folder: {folder} is not empty; name a new folder for the model, or remove this one")


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep the bars of transformers, for work of milliseconds, off the terminal."""
    shown = is_progress_bar_enabled()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()  # type: ignore[no-untyped-call]


def _save(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, **facts: Any) -> None:
    """Write everything beside the folder, then rename: nobody ever sees half a model. ``facts`` go on its card."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    card = ModelCard(levels=_PROMPT.scale.levels, prompt_version=_PROMPT.version, kind="generative", **facts)
    unfinished_folder = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-")
    with unfinished_folder as unfinished, _no_progress_bars():
        whole = Path(unfinished) / "model"
        model.bfloat16().save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        write_card(whole, card)
        make_readable(whole)
        whole.rename(folder)
