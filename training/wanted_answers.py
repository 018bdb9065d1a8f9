"""What whoever learns from judged pairs is to answer, and how much each pair counts."""

from __future__ import annotations

import numpy as np

from labelstream.schemas.scale import Floats
from labelstream.training.judgments import MISSING, JudgedPairs


def wanted_distributions(judged: JudgedPairs, levels: int, rater_share: float) -> Floats:
    """What a judge should answer: the adjudicated level, softened by what the single raters said.

    A pair that people disagree on is one that a judge should not be sure of (soft labels: Uma et al. 2021,
    "Learning from Disagreement", JAIR 72).

    Args:
        judged: The pairs.
        levels: Number of levels.
        rater_share: Share of the raters' votes in the answer; a pair without raters keeps its level.

    Returns:
        Shape (pairs, levels); rows sum to 1.
    """
    adjudicated = np.eye(levels)[judged.levels]
    if judged.rater_levels is None:
        return adjudicated
    votes = np.stack([(judged.rater_levels == level).sum(axis=1) for level in range(levels)], axis=1).astype(float)
    known = (judged.rater_levels != MISSING).any(axis=1)
    votes[known] /= votes[known].sum(axis=1, keepdims=True)
    share = np.where(known, rater_share, 0.0)[:, None]
    return np.asarray((1.0 - share) * adjudicated + share * votes)


def class_weights(targets: Floats, balance: float) -> Floats:
    """A weight for every pair, so that rare levels are not drowned: (1 / frequency)^balance, mean 1.

    Args:
        targets: Wanted distributions; shape (pairs, levels).
        balance: 0 for none, 1 for inverse frequency ("balanced" in scikit-learn).

    Returns:
        Shape (pairs,). A level that never occurs has no part in it.
    """
    if not len(targets):
        return np.empty(0)
    frequency = targets.mean(axis=0)
    by_level = np.where(frequency > 0, np.maximum(frequency, 1e-12) ** -balance, 0.0)
    weights = targets @ by_level
    return np.asarray(weights / weights.mean())
