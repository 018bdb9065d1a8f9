"""Texts to vectors with a sentence-transformers model, for looking things up in a catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labelstream.schemas.errors import ModelUnusable
from labelstream.training.catalogue_index import Embed

_BATCH = 64


def embedder(folder: Path, *, max_tokens: int = 96) -> Embed:
    """Load a bi-encoder.

    Args:
        folder: A sentence-transformers model.
        max_tokens: Longest text; the rest is cut.

    Returns:
        Texts to unit vectors; float32, shape (texts, dimensions). Shows a progress bar for many texts.

    Raises:
        ModelUnusable: It cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model: Any = SentenceTransformer(
            str(folder), device=device, trust_remote_code=False, local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )  # fmt: skip
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        raise ModelUnusable(f"--embedder {folder}: sentence-transformers cannot load it: {error}") from error
    model.max_seq_length = min(max_tokens, model.max_seq_length or max_tokens)

    def embed(texts: list[str]) -> NDArray[np.float32]:
        many = len(texts) > 10 * _BATCH
        vectors = model.encode(texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=many)
        return np.asarray(vectors, dtype=np.float32)

    return embed
