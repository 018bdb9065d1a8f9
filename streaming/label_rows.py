"""Judgements as rows of the labels table: the one place where a label record is put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.scale import Floats, expected_score
from labelstream.schemas.settings import Settings


class JudgedPair(NamedTuple):
    """Whose judgement it is."""

    label_key: str
    query: str
    product_id: str
    product_hash: str


def score_of(answer: float) -> float | None:
    """A cross-encoder's answer as a label has it.

    With the version beside it, None says that it is not a number: asking again would not help.
    """
    return float(answer) if math.isfinite(answer) else None


class LabelRows:
    """Makes rows of the labels of one judge.

    Args:
        settings: Where ``scale`` and ``polarization`` matter.
        judge: Who judges.
    """

    def __init__(self, settings: Settings, judge: JudgeDescription) -> None:
        self._scale, self._polarization, self._judge = settings.scale, settings.polarization, judge

    def rows(
        self,
        pairs: Sequence[JudgedPair],
        judgements: Judgements,
        *,
        cross_encoder_scores: Floats | None,
        cross_encoder_version: str | None,
        request_id: str | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of ``labels`` of all pairs that could be judged, in their order.

        Args:
            pairs: One for each judgement.
            judgements: In the order of the pairs.
            cross_encoder_scores: Shape (pairs,), or None where no cross-encoder runs.
            cross_encoder_version: Which one.
            request_id: Of the request that asked; None for labels of the stream.
        """
        good = [index for index in range(len(pairs)) if index not in judgements.errors]
        if not good:
            return []
        probabilities = judgements.probabilities[good]
        expected = expected_score(probabilities.astype(np.float64), self._scale)
        polarized, shared = self._polarization(expected), self._shared(cross_encoder_version, request_id)
        return [
            {
                **pairs[index]._asdict(),
                "probabilities": probabilities[row].tolist(),
                "level": self._scale.levels[int(probabilities[row].argmax())],
                "expected_score": float(expected[row]),
                "polarized_score": float(polarized[row]),
                "shortened": bool(judgements.shortened[index]),
                "cross_encoder_score": None if cross_encoder_scores is None else score_of(cross_encoder_scores[index]),
                **shared,
            }
            for row, index in enumerate(good)
        ]

    def _shared(self, cross_encoder_version: str | None, request_id: str | None) -> dict[str, Any]:
        alpha, beta = self._polarization.parameters or (None, None)
        return {
            "polarization_alpha": alpha,
            "polarization_beta": beta,
            "temperature": self._judge.temperature,
            "cross_encoder_version": cross_encoder_version,
            "model_version": self._judge.model_version,
            "prompt_version": self._judge.prompt_version,
            "scale_version": self._judge.scale_version,
            "judged_at": datetime.now(UTC),
            "request_id": request_id,
        }
