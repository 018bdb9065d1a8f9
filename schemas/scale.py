"""The label scale: which levels there are, which token stands for each, and what each is worth."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

Floats = NDArray[np.float64]


def from_json(value: Any) -> Any:
    """Lists and maps arrive as JSON from the environment and as themselves from code."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f'must be JSON, such as ["bad", "good"] or {{"buy": "purchase"}} ({error})') from error


_LEVEL_NAME = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{1,31}$")]


class LabelScale(BaseModel):
    """An ordinal scale of 2 to 5 relevance levels, worst first.

    The token of level *i* is the digit *i*: a digit is one token in every vocabulary in common use.
    """

    model_config = ConfigDict(frozen=True)

    levels: Annotated[tuple[_LEVEL_NAME, ...], BeforeValidator(from_json)] = Field(
        default=("irrelevant", "moderate", "high"),
        min_length=2,
        max_length=5,
        description="Names of the relevance levels, worst first (2 to 5 of them).",
    )

    @model_validator(mode="after")
    def _levels_are_distinct(self) -> Self:
        if len(set(self.levels)) != len(self.levels):
            raise ValueError(f"levels must differ from each other, got {list(self.levels)}")
        return self

    @property
    def tokens(self) -> tuple[str, ...]:
        """The text of the label token of each level."""
        return tuple(str(i) for i in range(len(self.levels)))

    @property
    def values(self) -> Floats:
        """What each level is worth in [0, 1], shape (levels,): equal steps from 0 to 1."""
        return np.linspace(0.0, 1.0, len(self.levels))

    @property
    def version(self) -> str:
        """Content hash of the scale; a label of one scale is never mistaken for one of another."""
        return hashlib.sha256("|".join(self.levels).encode()).hexdigest()[:12]


def label_distribution(log_probabilities: Floats, temperature: float = 1.0) -> Floats:
    """Turn raw label-token log-probabilities into a calibrated distribution.

    vLLM's log-probabilities are over the whole vocabulary and not scaled, so they are divided by the
    temperature and normalised over the label tokens alone (temperature scaling, Guo et al. 2017,
    arXiv 1706.04599).

    Args:
        log_probabilities: Shape (..., levels), any finite or ``-inf`` values; at least one finite in a row.
        temperature: Above 1 flattens, below 1 sharpens.

    Returns:
        Shape (..., levels); each row sums to 1.

    Raises:
        ValueError: A temperature that is not positive, NaN input, or a row without a finite value.
    """
    if not (temperature > 0 and np.isfinite(temperature)):
        raise ValueError(f"temperature must be a positive number, got {temperature}")
    scaled = np.asarray(log_probabilities, dtype=np.float64) / temperature
    top = scaled.max(axis=-1, keepdims=True)
    if not np.isfinite(top).all():
        raise ValueError("log-probabilities hold NaN, +inf, or a row without a finite value")
    weights = np.exp(scaled - top)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def expected_score(probabilities: Floats, scale: LabelScale) -> Floats:
    """Mean worth of a label distribution.

    Args:
        probabilities: Shape (..., levels), rows sum to 1.
        scale: Gives the worth of each level.

    Returns:
        Shape (...,), in [0, 1].
    """
    return np.asarray(np.clip(np.asarray(probabilities) @ scale.values, 0.0, 1.0))
