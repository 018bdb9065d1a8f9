"""Scores of the cross-encoder, for somebody who waits."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from labelstream.actors.named_replicas import NamedReplicas
from labelstream.actors.priorities import REQUEST_PRIORITY
from labelstream.schemas.errors import LabelstreamError, ModelUnavailable

_log = logging.getLogger(__name__)


async def cross_encoder_scores(
    cross_encoders: NamedReplicas, queries: Sequence[str], texts: Sequence[str], deadline: float
) -> list[float]:
    """One score for each pair; NaN where the model's answer is not a number.

    Args:
        cross_encoders: The replicas that score.
        queries: Normalised; shape (pairs,).
        texts: What the models see of the products; shape (pairs,).
        deadline: Of ``time.monotonic()``.

    Raises:
        ModelUnavailable: It is away, or fails in a way that nobody thought of, such as no memory left on a GPU: to the
            caller that is the same.
        TimeoutError: It is not fast enough.
    """
    try:
        scores = await cross_encoders.call("score", list(queries), list(texts), REQUEST_PRIORITY, deadline=deadline)
    except (LabelstreamError, TimeoutError):
        raise
    except Exception as error:
        _log.exception("the cross-encoder could not score %d pairs", len(queries))
        raise ModelUnavailable(
            "the cross-encoder could not score this; try again later, or ask for what does not need it"
        ) from error
    return [float(score) for score in scores]
