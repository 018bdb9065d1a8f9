"""How well predicted levels and probabilities agree with what people said, and people with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from labelstream.schemas.scale import Floats
from labelstream.training.confusion_counts import divide
from labelstream.training.judgments import MISSING, Integers

DecisionRule = Literal["argmax", "expected"]

CALIBRATION_BINS = 15
ADJUDICATED = "adjudicated"
_SUM_TOLERANCE = 1e-3  # float32 and bfloat16 heads


def checked_probabilities(probabilities: Floats, pairs: int, levels: int) -> Floats:
    """Take a distribution for each pair, in double precision.

    Args:
        probabilities: Shape (pairs, levels), rows sum to 1 but for rounding.
        pairs: How many there must be.
        levels: Of the scale.

    Returns:
        The same, each row divided by its sum.

    Raises:
        ValueError: Another shape, or a row that is no distribution, such as the NaN of a pair that was not judged.
    """
    given = np.asarray(probabilities, np.float64)
    if given.shape != (pairs, levels):
        raise ValueError(f"probabilities have shape {given.shape}, expected {(pairs, levels)}: pairs, levels")
    sums = given.sum(axis=1)
    wrong = np.flatnonzero(~((given >= 0).all(axis=1) & (np.abs(sums - 1) <= _SUM_TOLERANCE)))
    if wrong.size:
        raise ValueError(
            f"probabilities of {wrong.size} pairs are no distribution, first of pair {wrong[0]}: "
            f"{given[wrong[0]].tolist()}; leave pairs without a judgement out by JudgedPairs.select"
        )
    return np.asarray(given / sums[:, None])


def decide(probabilities: Floats, rule: DecisionRule = "argmax") -> Integers:
    """Choose a level from each distribution.

    Args:
        probabilities: Shape (pairs, levels).
        rule: ``argmax`` for the most probable level, ``expected`` for the level nearest to the mean level (which
            costs least under the squared distance of quadratic κ). Of two that are as good, the lower.

    Returns:
        Shape (pairs,).
    """
    if rule == "argmax":
        return np.asarray(probabilities.argmax(axis=1), np.int64)
    mean = probabilities @ np.arange(probabilities.shape[1])
    return np.clip(np.ceil(mean - 0.5), 0, probabilities.shape[1] - 1).astype(np.int64)


class ClassScores(NamedTuple):
    """One level; 0 where there is nothing to divide by (scikit-learn's ``zero_division=0``)."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Agreement:
    """Predicted levels against true ones.

    Attributes:
        kappa: Cohen's κ; NaN where the true levels are all the same.
        quadratic_kappa: κ weighted by the square of the distance; NaN where the true levels are all the same.
        weighted_f1: F1 of the levels, weighted by how often each is the true one.
        accuracy: Share of the pairs that are right.
        optimistic_bias: Share of the errors that are upward; NaN without an error.
        per_class: Worst level first.
        confusion: Rows the true level, columns the predicted one; shape (levels, levels).
    """

    kappa: float
    quadratic_kappa: float
    weighted_f1: float
    accuracy: float
    optimistic_bias: float
    per_class: tuple[ClassScores, ...]
    confusion: Integers


def agreement(true_levels: Integers, predicted_levels: Integers, levels: int) -> Agreement:
    """Compare predicted levels with true ones, by scikit-learn.

    Args:
        true_levels: At least one; shape (pairs,).
        predicted_levels: Shape (pairs,).
        levels: Of the scale.
    """
    names = range(levels)
    wrong = true_levels != predicted_levels
    upward = np.count_nonzero(predicted_levels > true_levels)
    each = precision_recall_fscore_support(true_levels, predicted_levels, labels=names, zero_division=0.0)
    options = {"labels": names, "average": "weighted", "zero_division": 0.0}
    return Agreement(
        cohen_kappa(true_levels, predicted_levels, levels),
        cohen_kappa(true_levels, predicted_levels, levels, weights="quadratic"),
        float(f1_score(true_levels, predicted_levels, **options)),
        float(accuracy_score(true_levels, predicted_levels)),
        upward / int(wrong.sum()) if wrong.any() else math.nan,
        tuple(ClassScores(float(p), float(r), float(f), int(n)) for p, r, f, n in zip(*each, strict=True)),
        np.asarray(confusion_matrix(true_levels, predicted_levels, labels=names), np.int64),
    )


def cohen_kappa(
    reference: Integers, other: Integers, levels: int, weights: Literal["quadratic"] | None = None
) -> float:
    """Cohen's κ by scikit-learn; NaN where the reference is all one level: it would be 0 whatever the other says."""
    if len(np.unique(reference)) == 1:
        return math.nan
    return float(cohen_kappa_score(reference, other, labels=range(levels), weights=weights))


class ReliabilityBin(NamedTuple):
    """Pairs of similar confidence: of a calibrated judge, confidence and accuracy are the same.

    Attributes:
        low: Lower border of the confidence, not in the bin.
        high: Upper border, in the bin.
        pairs: How many fall in.
        confidence: Their mean top probability, NaN for an empty bin.
        accuracy: Share whose most probable level is right, NaN for an empty bin.
    """

    low: float
    high: float
    pairs: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be taken at their word.

    Attributes:
        expected_calibration_error: Mean distance of confidence and accuracy over the bins, weighted by their pairs.
        negative_log_likelihood: Mean −log P(true level), natural logarithm.
        brier: Mean squared distance to the truth, halved, in [0, 1] for any number of levels.
        bins: Of equal width over the confidence.
    """

    expected_calibration_error: float
    negative_log_likelihood: float
    brier: float
    bins: tuple[ReliabilityBin, ...]


def calibration(true_levels: Integers, probabilities: Floats, *, bins: int = CALIBRATION_BINS) -> Calibration:
    """Compare probabilities with the truth; the most probable level is what is right or wrong, whatever is decided.

    Args:
        true_levels: Shape (pairs,).
        probabilities: Shape (pairs, levels), rows sum to 1.
        bins: How many, of equal width over (0, 1]; 15 as in Guo et al. 2017 (arXiv 1706.04599).
    """
    names = range(probabilities.shape[1])
    sums = confidence_sums(true_levels, probabilities, np.zeros_like(true_levels), bins=bins)[0]
    means = divide(sums[:, 1:], sums[:, :1])
    borders = _borders(bins).tolist()
    return Calibration(
        float(calibration_error(sums)),
        float(log_loss(true_levels, probabilities, labels=names)),
        float(brier_score_loss(true_levels, probabilities, labels=names, scale_by_half=True)),
        tuple(ReliabilityBin(borders[i], borders[i + 1], int(sums[i, 0]), *means[i].tolist()) for i in range(bins)),
    )


def _borders(bins: int) -> Floats:
    return np.linspace(0.0, 1.0, bins + 1)


def confidence_sums(
    true_levels: Integers, probabilities: Floats, query_numbers: Integers, *, bins: int = CALIBRATION_BINS
) -> Floats:
    """Sum what the calibration error needs, query by query.

    Returns:
        Shape (queries, bins, 3): pairs, sum of their confidence, pairs whose most probable level is right.
    """
    confidence = probabilities.max(axis=1)
    place = np.clip(np.searchsorted(_borders(bins), confidence) - 1, 0, bins - 1)
    right = probabilities.argmax(axis=1) == true_levels
    sums = np.zeros((int(query_numbers.max(initial=-1)) + 1, bins, 3))
    np.add.at(sums, (query_numbers, place), np.stack([np.ones_like(confidence), confidence, right], axis=1))
    return sums


def calibration_error(sums: Floats) -> Floats:
    """Expected calibration error (Guo et al. 2017, equation 3) of sums of shape (..., bins, 3)."""
    return divide(np.abs(sums[..., 2] - sums[..., 1]).sum(axis=-1), sums[..., 0].sum(axis=-1))


class RaterComparison(NamedTuple):
    """One that has rated, against a reference that has rated the same pairs.

    Attributes:
        reference: ``rater_1`` and so on, or ``adjudicated``.
        rater: Another rater.
        indices: The pairs that both have rated.
        reference_levels: What the reference says of them.
        rater_levels: What the rater says of them.
    """

    reference: str
    rater: str
    indices: Integers
    reference_levels: Integers
    rater_levels: Integers


def compare_raters(rater_levels: Integers, levels: Integers) -> Iterator[RaterComparison]:
    """Put each two raters side by side, then each rater beside the adjudicated level.

    The adjudicated level was made of the raters' own, so agreement with it flatters them.

    Args:
        rater_levels: -1 where there is nothing; shape (pairs, raters).
        levels: Adjudicated; shape (pairs,).

    Yields:
        Comparisons with at least one pair.
    """
    names = [f"rater_{number + 1}" for number in range(rater_levels.shape[1])]
    said = dict(zip(names, rater_levels.T, strict=True)) | {ADJUDICATED: levels}
    for reference, rater in [*combinations(names, 2), *((ADJUDICATED, name) for name in names)]:
        indices = np.flatnonzero((said[reference] != MISSING) & (said[rater] != MISSING))
        if indices.size:
            yield RaterComparison(reference, rater, indices, said[reference][indices], said[rater][indices])
