"""The judge: pairs in, calibrated label distributions out. No Ray in here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import numpy as np

from labelstream.actors.engine_thread import EngineThread
from labelstream.actors.model_folder import ModelCard, fingerprint, model_folder, read_card, read_json
from labelstream.actors.vllm_engine import VllmEngine, adapter_of, engine_environment, require_vllm
from labelstream.schemas.errors import BadRecord, ModelUnusable
from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.prompt_encoder import EncodedPrompt, PromptEncoder, Tokenizer
from labelstream.schemas.scale import Floats, LabelScale, label_distribution
from labelstream.schemas.settings import Settings

_MODEL = "LABELSTREAM_LABELLER_MODEL"
# Architectures that predict a next token; the last is how Hugging Face names those that also take pictures.
_GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
# Enough prompts inside the engine that a step is always full, few enough that an urgent one is soon inside.
_FILLS = 2


class LabelEngine:
    """A labeller model, loaded and answering.

    Args:
        settings: Where ``labeller``, ``prompt`` and ``scale`` matter.
        on_failure: Called once when the engine has died, after all who wait have been told.

    Raises:
        MissingDependency: vLLM is not installed.
        ModelUnusable: No such model, not a causal LM, no token for a label, tuned on another scale or prompt.
    """

    def __init__(self, settings: Settings, *, on_failure: Callable[[Exception], None] | None = None) -> None:
        require_vllm(settings.labeller)
        os.environ.update(engine_environment(settings.labeller))  # before anything imports torch
        folder = model_folder(settings.labeller.model, setting=_MODEL)
        _check_config(folder, settings)
        adapter = adapter_of(settings.labeller)
        folders = [folder, adapter[1]] if adapter else [folder]
        prompt = Prompt(settings.scale)
        card = read_card(*reversed(folders))  # an adapter is tuned after its model
        _check_card(card, settings.scale, prompt)

        self._scale, self._temperature = settings.scale, card.temperature
        self._encoder = PromptEncoder(
            prompt, _load_tokenizer(folder), settings.prompt.max_tokens, settings.prompt.chat_template
        )
        label_token_ids = self._encoder.label_token_ids
        self._description = JudgeDescription(
            fingerprint(folders), _prompt_version(settings, prompt), settings.scale.version, card.temperature
        )
        self._thread = EngineThread(
            lambda: VllmEngine(settings, folder, label_token_ids),
            levels=len(label_token_ids),
            limit=_FILLS * settings.labeller.max_sequences,
            on_failure=on_failure,
        )

    @property
    def healthy(self) -> bool:
        """Whether the engine answers."""
        return self._thread.healthy

    def describe(self) -> JudgeDescription:
        """Which judge this is."""
        return self._description

    def judge(self, queries: Sequence[str], products: Sequence[str], priority: int = 0) -> Future[Judgements]:
        """Judge a batch of pairs; any thread may call, and many batches may be under way.

        Args:
            queries: Shape (pairs,).
            products: Rendered product texts (``product_text``); shape (pairs,).
            priority: Lower goes first.

        Returns:
            The judgements, or ``ModelUnavailable`` when the engine has died. Cancelling it saves work.

        Raises:
            ValueError: Different numbers of queries and products.
        """
        if len(queries) != len(products):
            raise ValueError(f"{len(queries)} queries but {len(products)} products")
        batch = _Batch(queries, self._encoder.encode(queries, products), self._scale, self._temperature)
        return self._thread.submit(batch.prompts, batch.judgements, priority=priority)

    def close(self) -> None:
        """Free the model; batches under way fail with ``ModelUnavailable``."""
        self._thread.close()


class _Batch:
    """One batch on its way: in the order of the pairs outside, in the order of the queries inside."""

    def __init__(
        self,
        queries: Sequence[str],
        encoded: Sequence[EncodedPrompt | BadRecord],
        scale: LabelScale,
        temperature: float,
    ) -> None:
        self._pairs, self._levels, self._temperature = len(encoded), len(scale.levels), temperature
        self._errors = {i: entry for i, entry in enumerate(encoded) if isinstance(entry, BadRecord)}
        good = [(queries[i], i, entry) for i, entry in enumerate(encoded) if isinstance(entry, EncodedPrompt)]
        good.sort(key=lambda row: row[:2])  # one query after the other, for the prefix cache
        self._order = np.array([i for _, i, _ in good], dtype=np.intp)
        self._shortened = np.array([entry.shortened for _, _, entry in good], dtype=np.bool_)
        self.prompts = [entry.token_ids for _, _, entry in good]

    def judgements(self, log_probabilities: Floats) -> Judgements:
        """Back to the order of the pairs; ``log_probabilities`` has shape (prompts, levels)."""
        probabilities = np.full((self._pairs, self._levels), np.nan, dtype=np.float32)
        shortened = np.zeros(self._pairs, dtype=np.bool_)
        shortened[self._order] = self._shortened
        usable = np.isfinite(log_probabilities).any(axis=1) & ~np.isnan(log_probabilities).any(axis=1)
        probabilities[self._order[usable]] = label_distribution(log_probabilities[usable], self._temperature)
        errors = self._errors | {int(i): _not_a_number() for i in self._order[~usable]}
        return Judgements(probabilities, shortened, errors)


def _not_a_number() -> BadRecord:
    return BadRecord("the model's answer is not a number; set LABELSTREAM_LABELLER_DTYPE=float32, or use another model")


def _check_config(folder: Path, settings: Settings) -> None:
    config = read_json(folder / "config.json", setting=_MODEL)
    architectures = config.get("architectures") or ["none"]
    if not any(str(name).endswith(_GENERATIVE) for name in architectures):
        raise ModelUnusable(f"{_MODEL}={folder} is a {architectures[0]}; set it to a causal LM (…ForCausalLM)")
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions <= settings.prompt.max_tokens:
        raise ModelUnusable(
            f"{_MODEL}={folder} takes {positions} tokens; set LABELSTREAM_PROMPT_MAX_TOKENS to {positions - 1} or less"
        )


def _check_card(card: ModelCard, scale: LabelScale, prompt: Prompt) -> None:
    if card.levels is not None and card.levels != scale.levels:
        raise ModelUnusable(
            f"{_MODEL}: tuned on the levels {list(card.levels)}, but LABELSTREAM_SCALE_LEVELS is "
            f"{list(scale.levels)}; set them alike"
        )
    if card.prompt_version is not None and card.prompt_version != prompt.version:
        raise ModelUnusable(
            f"{_MODEL}: tuned on prompt {card.prompt_version}, this version of labelstream asks {prompt.version}; "
            "tune it again"
        )


def _prompt_version(settings: Settings, prompt: Prompt) -> str:
    """Wording, wrapping and length: each of them can change an answer."""
    chat = "-chat" if settings.prompt.chat_template else ""
    return f"{prompt.version}{chat}-{settings.prompt.max_tokens}"


def _load_tokenizer(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, ImportError) as error:
        raise ModelUnusable(f"{_MODEL}={folder}: its tokenizer cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise ModelUnusable(f"{_MODEL}={folder}: has no tokenizer.json; save the model with its fast tokenizer")
    return cast(Tokenizer, tokenizer)
