"""A small encoder's opinion of a pair: the feature beside the label, and the judge of a re-ranking."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labelstream.actors.judge_kind import check_levels, is_classifier
from labelstream.actors.model_environment import model_environment
from labelstream.actors.stepwise import Steps, all_steps
from labelstream.actors.threads import compute_threads, processor_dtype
from labelstream.schemas.errors import ModelUnusable
from labelstream.schemas.model_card import ModelCard, read_card
from labelstream.schemas.model_folder import fingerprint, model_folder, packaged_encoder, read_json
from labelstream.schemas.model_settings import EncoderSettings
from labelstream.schemas.prompt_encoder import PlainTokens
from labelstream.schemas.scale import Floats, LabelScale, label_distribution

_MODEL = "LABELSTREAM_ENCODER_MODEL"
# No vocabulary in use has tokens this long on average, so a longer text is cut before it costs time.
_CHARACTERS_PER_TOKEN = 32

Scores = NDArray[np.float32]
Kind = Literal["cross-encoder", "bi-encoder"]


@dataclass(frozen=True)
class EncoderDescription:
    """Which pair scorer this is.

    Attributes:
        kind: ``cross-encoder`` (reads both texts together) or ``bi-encoder`` (compares embeddings).
        version: Fingerprint of the model.
    """

    kind: Kind
    version: str


class PairScorer:
    """Scores pairs with a sentence-transformers model.

    A model with a classification head reads query and product together (cross-encoder). Any other gives
    each text an embedding, and the score is their cosine (bi-encoder). A cross-encoder with one output a level
    can be the labeller's classifier too: both read the same tokens of pairs that fit, and as long as the model makes
    nothing of token types, as those that we tune, both say the same.

    Args:
        settings: The encoder section.
        scale: The label scale, which the model's card has to name if it names one; None to take any.

    Raises:
        MissingDependency: No model is set and the packaged one is not installed.
        ModelUnusable: No such model, one that cannot be loaded, or one of other levels than its card names.

    Attributes:
        kind: See ``EncoderDescription``.
        version: Fingerprint of the model.
        outputs: Of a cross-encoder; 0 of a bi-encoder.
    """

    def __init__(self, settings: EncoderSettings, scale: LabelScale | None = None) -> None:
        folder = model_folder(settings.model, setting=_MODEL) if settings.model else packaged_encoder()
        joint = is_classifier(read_json(folder / "config.json", setting=_MODEL))
        self.kind: Kind = "cross-encoder" if joint else "bi-encoder"
        self.version = fingerprint([folder])
        card = read_card(folder)
        # It has never seen what stands behind the longest input that it was tuned on.
        settings = settings.model_copy(
            update={"max_tokens": min(settings.max_tokens, card.max_tokens or settings.max_tokens)}
        )
        self._batch_size, self._max_tokens = settings.batch_size, settings.max_tokens
        self._temperature = card.temperature
        if scale is not None:
            check_levels(card, scale, setting=_MODEL)
        try:
            self._model = _load(self.kind, folder, settings)
        except (ValueError, RuntimeError, OSError, KeyError) as error:
            raise ModelUnusable(f"{_MODEL}={folder}: sentence-transformers cannot load it: {error}") from error
        self._plain = PlainTokens(self._model.tokenizer)
        self.outputs = int(self._model.num_labels) if joint else 0
        _check_outputs(self.outputs, card, folder)

    def describe(self) -> EncoderDescription:
        """Which pair scorer this is."""
        return EncoderDescription(self.kind, self.version)

    def score(self, queries: Sequence[str], products: Sequence[str]) -> Scores:
        """Score pairs.

        Args:
            queries: Shape (pairs,).
            products: Rendered product texts (``product_text``); shape (pairs,).

        Returns:
            Scores in [0, 1], higher is better; float32, shape (pairs,), in the order of the pairs. Where a
            text is empty there is nothing to compare: 0.

        Raises:
            ValueError: Different numbers of queries and products.
        """
        return all_steps(self.score_in_steps(queries, products))

    def score_in_steps(self, queries: Sequence[str], products: Sequence[str]) -> Steps[Scores]:
        """The same as ``score``, which pauses before every forward pass: something more urgent can go first there."""
        lines, texts = self._texts(queries, products)
        if not lines:
            return np.empty(0, dtype=np.float32)
        if self.kind == "cross-encoder":
            scores: NDArray[np.floating] = _mean_worth((yield from self._distributions(lines, texts)))
        else:
            scores = yield from self._by_cosine(lines, texts)
        return np.where(_compared(lines, texts), np.clip(scores, 0.0, 1.0), 0.0).astype(np.float32)

    def probabilities(self, queries: Sequence[str], products: Sequence[str]) -> Floats:
        """What a cross-encoder with one output a level says of pairs; ``score`` is the mean worth of it.

        Args:
            queries: Shape (pairs,).
            products: Rendered product texts (``product_text``); shape (pairs,).

        Returns:
            Calibrated P(level), worst level first; shape (pairs, levels). Where a text is empty it is the worst
            level for certain; a row of NaN where the model's answer is not a number.

        Raises:
            ModelUnusable: The model has no levels: it is a bi-encoder, or has one output.
            ValueError: Different numbers of queries and products.
        """
        return all_steps(self.probabilities_in_steps(queries, products))

    def probabilities_in_steps(self, queries: Sequence[str], products: Sequence[str]) -> Steps[Floats]:
        """The same as ``probabilities``, which pauses before every forward pass."""
        if self.outputs <= 1:
            raise ModelUnusable(f"{_MODEL}: a {self.kind} without levels; set a cross-encoder with one output a level")
        lines, texts = self._texts(queries, products)
        if not lines:
            return np.empty((0, self.outputs))
        worst = np.eye(self.outputs)[0]
        distributions = yield from self._distributions(lines, texts)
        return np.where(_compared(lines, texts)[:, None], distributions, worst)

    def passes(self, queries: Sequence[str], products: Sequence[str]) -> int:
        """How many forward passes, and so steps, pairs take."""
        lines, texts = self._texts(queries, products)
        inputs = len(lines) if self.kind == "cross-encoder" else len({*lines, *texts})
        return -(-inputs // self._batch_size)

    def _texts(self, queries: Sequence[str], products: Sequence[str]) -> tuple[list[str], list[str]]:
        """Queries and products as ``PairEncoder`` reads them."""
        if len(queries) != len(products):
            raise ValueError(f"{len(queries)} queries but {len(products)} products")
        longest = self._max_tokens * _CHARACTERS_PER_TOKEN
        lines = [self._plain.one_line(query[:longest]) for query in queries]
        return lines, [self._plain.plain(product[:longest]) for product in products]

    def _distributions(self, queries: list[str], products: list[str]) -> Steps[Floats]:
        """Softmax of the outputs over the temperature; one output is the logit of the better of two levels."""
        pairs = list(zip(queries, products, strict=True))
        answers = yield from self._forward(self._logits, pairs, [len(query) + len(text) for query, text in pairs])
        logits = answers.reshape(len(pairs), self.outputs)
        if self.outputs == 1:
            logits = np.hstack([np.zeros_like(logits), logits])
        distributions = np.full_like(logits, np.nan)
        usable = np.isfinite(logits).all(axis=1)
        distributions[usable] = label_distribution(logits[usable], self._temperature)
        return distributions

    def _by_cosine(self, queries: list[str], products: list[str]) -> Steps[NDArray[np.floating]]:
        """Cosine in [-1, 1] mapped to [0, 1]; every distinct text is encoded once."""
        distinct = list(dict.fromkeys([*queries, *products]))
        row = {text: i for i, text in enumerate(distinct)}
        vectors = yield from self._forward(self._embeddings, distinct, [len(text) for text in distinct])
        left = vectors[[row[text] for text in queries]]
        right = vectors[[row[text] for text in products]]
        return np.asarray((1.0 + np.einsum("ij,ij->i", left, right)) / 2.0)

    def _forward(self, model: Callable[[list[Any]], Any], inputs: list[Any], lengths: list[int]) -> Steps[Floats]:
        """What the model says of each input, in their order; inputs of one length go together and need no padding."""
        # The longest first, as sentence-transformers has it: what does not fit into memory fails soon.
        order = np.argsort(-np.asarray(lengths), kind="stable")
        answers: list[Floats] = []
        for start in range(0, len(order), self._batch_size):
            yield
            batch = [inputs[i] for i in order[start : start + self._batch_size]]
            answers.append(np.asarray(model(batch), dtype=np.float64))
        together = np.concatenate(answers)
        return together[np.argsort(order)]

    def _logits(self, pairs: list[tuple[str, str]]) -> Any:
        from torch.nn import Identity

        return self._model.predict(
            pairs, batch_size=self._batch_size, activation_fn=Identity(), show_progress_bar=False
        )

    def _embeddings(self, texts: list[str]) -> Any:
        return self._model.encode(
            texts, batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )


def _compared(lines: list[str], texts: list[str]) -> NDArray[np.bool_]:
    """Whether there is something to compare."""
    return np.array([bool(line and text.strip()) for line, text in zip(lines, texts, strict=True)])


def _mean_worth(distributions: Floats) -> Floats:
    """Mean worth of ordinal levels in equal steps, as ``LabelScale.values``, but of any number."""
    return np.asarray(distributions @ np.linspace(0.0, 1.0, distributions.shape[1]))


def _check_outputs(outputs: int, card: ModelCard, folder: Path) -> None:
    if outputs > 1 and card.levels is not None and len(card.levels) != outputs:
        raise ModelUnusable(
            f"{_MODEL}={folder}: has {outputs} outputs, but its card names {len(card.levels)} levels; tune it again"
        )


def _load(kind: Kind, folder: Path, settings: EncoderSettings) -> Any:
    os.environ.update(model_environment(settings))
    import sentence_transformers
    import torch

    device = "cuda" if settings.gpus else "cpu"
    options: dict[str, Any] = {"device": device, "trust_remote_code": False, "local_files_only": True}
    options["model_kwargs"] = {"use_safetensors": True, "dtype": _dtype(device)}
    if kind == "cross-encoder":
        return sentence_transformers.CrossEncoder(str(folder), max_length=settings.max_tokens, **options)
    model = sentence_transformers.SentenceTransformer(str(folder), **options)
    model.max_seq_length = min(settings.max_tokens, model.max_seq_length or settings.max_tokens)
    if device == "cpu":
        torch.set_num_threads(compute_threads(settings.threads))
    return model


def _dtype(device: str) -> str:
    """bfloat16 where the hardware multiplies it, else float32."""
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return processor_dtype()
