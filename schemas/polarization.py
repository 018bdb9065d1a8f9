"""Sigmoid polarization of the expected score: content relevance as a filter."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from labelstream.schemas.scale import Floats

PresetName = Literal["none", "lenient", "balanced", "strict", "custom"]

# The source (arXiv 2409.17460) names strict to lenient settings but not their constants: these are ours.
# beta is the score that maps to one half; alpha is how steep the step is.
PRESETS: dict[str, tuple[float, float]] = {
    "lenient": (10.0, 0.35),
    "balanced": (10.0, 0.50),
    "strict": (10.0, 0.65),
}


class Polarization(BaseModel):
    """Which sigmoid is laid over the expected score."""

    model_config = ConfigDict(frozen=True)

    preset: PresetName = Field(
        default="balanced",
        description="none (score kept as it is), lenient, balanced, strict, or custom with alpha and beta.",
    )
    alpha: float | None = Field(
        default=None, gt=0, le=1000, allow_inf_nan=False, description="Steepness; only with preset custom."
    )
    beta: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="Centre, in [0, 1]; only with preset custom."
    )

    @model_validator(mode="after")
    def _custom_needs_both(self) -> Self:
        given = (self.alpha is not None, self.beta is not None)
        if self.preset == "custom" and not all(given):
            raise ValueError("preset custom needs both alpha and beta")
        if self.preset != "custom" and any(given):
            raise ValueError(f"alpha and beta belong to preset custom, not to preset {self.preset}")
        return self

    @property
    def parameters(self) -> tuple[float, float] | None:
        """(alpha, beta), or None where the score is kept as it is."""
        if self.preset == "none":
            return None
        if self.alpha is not None and self.beta is not None:
            return self.alpha, self.beta
        return PRESETS[self.preset]

    def __call__(self, scores: Floats) -> Floats:
        """Polarize expected scores in [0, 1], any shape; the result has the same shape and lies in [0, 1]."""
        if self.parameters is None:
            return np.asarray(scores, dtype=np.float64)
        return polarize(scores, *self.parameters)


def polarize(scores: Floats, alpha: float, beta: float) -> Floats:
    """σ(x; α, β) = 1 / (1 + exp(−α (x − β))), arXiv 2409.17460.

    Args:
        scores: Expected scores, any shape.
        alpha: Steepness, positive.
        beta: The score that maps to one half.

    Returns:
        Same shape, in [0, 1], never decreasing in the score.
    """
    # tanh keeps the same curve without overflow for steep alpha.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * alpha * (np.asarray(scores, dtype=np.float64) - beta))))
