"""What comes back from the models for a batch of pairs: picklable, and cheap to send between processes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.keys import JudgeVersion


@dataclass(frozen=True)
class Judgements:
    """Answers to one batch of pairs, in the order of the pairs.

    Attributes:
        probabilities: Calibrated P(level), worst level first; float32, shape (pairs, levels). Rows sum to 1;
            a row of NaN for a pair that could not be judged.
        shortened: Whether the product text was cut to fit the prompt; shape (pairs,).
        errors: Why a pair could not be judged, by its index.
    """

    probabilities: NDArray[np.float32]
    shortened: NDArray[np.bool_]
    errors: dict[int, BadRecord] = field(default_factory=dict)

    @classmethod
    def none(cls, levels: int) -> Judgements:
        """The answers to an empty batch."""
        return cls(np.empty((0, levels), np.float32), np.empty(0, np.bool_))


@dataclass(frozen=True)
class JudgeDescription:
    """Which judge this is.

    Attributes:
        model_version: Fingerprint of model and adapter.
        prompt_version: Wording of the prompt and how it is cut and wrapped.
        scale_version: The label scale.
        temperature: What the answers are calibrated by.
    """

    model_version: str
    prompt_version: str
    scale_version: str
    temperature: float

    @property
    def version(self) -> JudgeVersion:
        """The part that a label key depends on."""
        return JudgeVersion(self.model_version, self.prompt_version, self.scale_version)
