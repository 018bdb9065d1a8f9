"""The card of a model: what its training leaves beside the weights, for those who load it."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labelstream.schemas.complaint import first_complaint
from labelstream.schemas.errors import ModelUnusable
from labelstream.schemas.product import Moment

CARD = "labelstream.json"

_READABLE = 0o644  # less what the umask takes away


class ModelCard(BaseModel):
    """What ``labelstream.json`` in a model or adapter folder says about a model of ours. Every field is optional.

    Attributes:
        levels: The label scale that it was tuned on, worst first; None where unknown.
        temperature: Calibration of its answers (temperature scaling).
        prompt_version: The prompt that it was tuned on; None where unknown.
        max_tokens: Longest input that it was tuned on; longer ones are cut to it. None for any.
        kind: What answers: the next token of a causal LM, a classifier head, or a cross-encoder.
        base: Path or hub id of the model that training began with; None for one that began with random weights.
        trained_at: When training ended.
        metrics: How well it did on held-out data. A number that is not finite is written as null.
        training: What it was trained with: data, seed, learning rate and the like.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    levels: tuple[str, ...] | None = None
    temperature: float = Field(default=1.0, gt=0)
    prompt_version: str | None = None
    max_tokens: int | None = Field(default=None, ge=16)
    kind: Literal["generative", "classifier", "cross-encoder"] | None = None
    base: str | None = None
    trained_at: Moment | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)

    def decisive(self) -> str:
        """The fields that an answer depends on, as JSON; those that only tell about the model are left out."""
        return self.model_dump_json(exclude={"base", "trained_at", "metrics", "training"})


def read_card(*folders: Path) -> ModelCard:
    """The card of the first folder that has one, else the card of a model that was never tuned.

    Raises:
        ModelUnusable: A card that cannot be read.
    """
    for path in (folder / CARD for folder in folders):
        if path.is_file():
            try:
                return ModelCard.model_validate_json(path.read_bytes())
            except OSError as error:
                raise ModelUnusable(f"{path}: {error.strerror}; make the file readable") from error
            except ValidationError as error:
                raise ModelUnusable(f"{path}: {first_complaint(error)}; write the file again") from None
    return ModelCard()


def write_card(folder: Path, card: ModelCard) -> Path:
    """Write the card into a folder that exists, in place of the one that is there; readers see the one or the other.

    Returns:
        Where it is.
    """
    path, beside = folder / CARD, folder / f".{CARD}-{uuid.uuid4().hex}"
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _READABLE), "w", encoding="utf-8") as file:
            file.write(card.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def make_readable(folder: Path) -> None:
    """Give all files below a model folder the mode of its card, which is that of any new file.

    Weights are saved through a temporary file, which only its owner may read; a Labeller often runs as somebody else.

    Raises:
        FileNotFoundError: The folder has no card yet.
    """
    mode = stat.S_IMODE((folder / CARD).stat().st_mode)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)
