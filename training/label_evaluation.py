"""Measures of labels with their intervals: a model's, and those of the raters among themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelstream.schemas.scale import Floats, LabelScale
from labelstream.training.agreement import (
    DecisionRule,
    agreement,
    calibration,
    calibration_error,
    compare_raters,
    confidence_sums,
    decide,
)
from labelstream.training.confusion_counts import MEASURES, class_scores, confusion_counts
from labelstream.training.intervals import Draws, interval, mean, measured, number_or_none
from labelstream.training.judgments import Integers, JudgedPairs

_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)  # where scikit-learn's log_loss cuts


def measure_labels(
    judged: JudgedPairs, probabilities: Floats, scale: LabelScale, rule: DecisionRule, draws: Draws
) -> dict[str, Any]:
    """Every measure of a labeller.

    Args:
        judged: The pairs.
        probabilities: Shape (pairs, levels), rows sum to 1.
        scale: Our label scale.
        rule: From probabilities to a level.
        draws: For the intervals.

    Returns:
        In the form of JSON: the measures of levels, those of probabilities, ``per_class``, ``confusion`` (rows the
        adjudicated level) and ``reliability`` (the bins of the calibration error).
    """
    predicted = decide(probabilities, rule)
    queries = judged.query_numbers
    return (
        _levels(judged.levels, predicted, queries, scale, draws)
        | {"per_class": _per_class(judged.levels, predicted, queries, scale, draws)}
        | _probabilities(judged.levels, probabilities, queries, draws)
    )


def measure_raters(judged: JudgedPairs, scale: LabelScale, draws: Draws) -> list[dict[str, Any]]:
    """The raters among themselves and each against the adjudicated level, by the measures of a labeller.

    Returns:
        One entry for each comparison: ``reference`` and ``rater``, ``pairs``, the measures, ``confusion`` (rows the
        reference). Empty where single raters are not known. The adjudicated level was made of the raters' own, so
        agreement with it flatters them: the model is to be held against the raters among themselves.
    """
    found = []
    for one in () if judged.rater_levels is None else compare_raters(judged.rater_levels, judged.levels):
        # Queries without such a pair are not drawn.
        _, queries = np.unique(judged.query_numbers[one.indices], return_inverse=True)
        named = {"reference": one.reference, "rater": one.rater, "pairs": len(one.indices)}
        found.append(named | _levels(one.reference_levels, one.rater_levels, queries, scale, draws))
    return found


def _levels(reference: Integers, other: Integers, queries: Integers, scale: LabelScale, draws: Draws) -> dict[str, Any]:
    values = agreement(reference, other, len(scale.levels))
    counts = confusion_counts(reference, other, queries, len(scale.levels))
    measures = {name: draws.measured(getattr(values, name), counts, statistic) for name, statistic in MEASURES.items()}
    return measures | {"confusion": values.confusion.tolist()}


def _per_class(
    true_levels: Integers, predicted: Integers, queries: Integers, scale: LabelScale, draws: Draws
) -> dict[str, Any]:
    values = agreement(true_levels, predicted, len(scale.levels)).per_class
    counts = confusion_counts(true_levels, predicted, queries, len(scale.levels))
    low, high = interval(counts, class_scores, resamples=draws.resamples, seed=draws.seed)
    found: dict[str, Any] = {}
    for name, scores, *bounds in zip(scale.levels, values, low.tolist(), high.tolist(), strict=True):
        each = zip(scores[:-1], *bounds, strict=True)
        measures = [measured(value, lower, upper) for value, lower, upper in each]
        found[name] = dict(zip(scores._fields, [*measures, scores.support], strict=True))
    return found


def _probabilities(true_levels: Integers, probabilities: Floats, queries: Integers, draws: Draws) -> dict[str, Any]:
    values = calibration(true_levels, probabilities)
    truth = np.eye(probabilities.shape[1])[true_levels]
    surprise = -np.log(np.clip((probabilities * truth).sum(axis=1), _LEAST_PROBABILITY, 1.0))
    distance = np.square(probabilities - truth).sum(axis=1) / 2
    by_bin = confidence_sums(true_levels, probabilities, queries)
    return {
        "expected_calibration_error": draws.measured(values.expected_calibration_error, by_bin, calibration_error),
        "negative_log_likelihood": draws.measured(values.negative_log_likelihood, _sums(surprise, queries), mean),
        "brier": draws.measured(values.brier, _sums(distance, queries), mean),
        "reliability": [{name: number_or_none(value) for name, value in one._asdict().items()} for one in values.bins],
    }


def _sums(values: Floats, queries: Integers) -> Floats:
    """Sum and number of the values of each query; shape (queries, 2)."""
    return np.stack([np.bincount(queries, values), np.bincount(queries)], axis=1)
