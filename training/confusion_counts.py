"""Measures of agreement as functions of confusion counts, for a thousand matrices at once.

scikit-learn computes the same for one pair of label lists; resampling queries needs it for a thousand sums of
per-query counts. Each function takes counts of shape (..., levels, levels), rows the true level and columns the
predicted one, and gives shape (...,), NaN where the measure is not defined.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from labelstream.schemas.scale import Floats
from labelstream.training.judgments import Integers


def confusion_counts(true_levels: Integers, predicted_levels: Integers, query_numbers: Integers, levels: int) -> Floats:
    """Count how often each level was taken for each, query by query.

    Args:
        true_levels: Shape (pairs,).
        predicted_levels: Shape (pairs,).
        query_numbers: Which query a pair belongs to, 0 and up; shape (pairs,).
        levels: Of the scale.

    Returns:
        Shape (queries, levels, levels).
    """
    counts = np.zeros((int(query_numbers.max(initial=-1)) + 1, levels, levels))
    np.add.at(counts, (query_numbers, true_levels, predicted_levels), 1)
    return counts


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, NaN where the denominator is 0."""
    undefined = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=undefined, where=denominator != 0))


def kappa(counts: Floats) -> Floats:
    """Cohen's κ (Cohen 1960): agreement beyond what the two distributions of levels give by chance.

    Not defined where the true levels are all the same: it would be 0 whatever is predicted.
    """
    return _weighted_kappa(counts, 1.0 - np.eye(counts.shape[-1]))


def quadratic_kappa(counts: Floats) -> Floats:
    """Weighted κ (Cohen 1968) with the square of the distance in levels as the cost of a disagreement.

    Not defined where the true levels are all the same: it would be 0 whatever is predicted.
    """
    places = np.arange(counts.shape[-1])
    return _weighted_kappa(counts, np.square(places[:, None] - places[None, :]).astype(np.float64))


def _weighted_kappa(counts: Floats, costs: Floats) -> Floats:
    of_true, of_predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    total = of_true.sum(axis=-1)
    by_chance = divide(of_true[..., :, None] * of_predicted[..., None, :], total[..., None, None])
    value = 1.0 - divide((costs * counts).sum(axis=(-2, -1)), (costs * by_chance).sum(axis=(-2, -1)))
    has_several = np.count_nonzero(of_true, axis=-1) > 1
    return np.where(has_several, value, np.nan)


def accuracy(counts: Floats) -> Floats:
    """Share of the pairs that are right."""
    return divide(_right(counts), counts.sum(axis=(-2, -1)))


def optimistic_bias(counts: Floats) -> Floats:
    """Share of the errors that are upward; not defined without an error.

    Half of them is no bias; LREF (arXiv 2503.09223) reports LLM judges that err upward.
    """
    return divide(np.triu(counts, 1).sum(axis=(-2, -1)), counts.sum(axis=(-2, -1)) - _right(counts))


def weighted_f1(counts: Floats) -> Floats:
    """Mean F1 of the levels, each weighted by how often it is the true one."""
    of_true = counts.sum(axis=-1)
    return divide((class_scores(counts)[..., 2] * of_true).sum(axis=-1), of_true.sum(axis=-1))


def class_scores(counts: Floats) -> Floats:
    """Precision, recall and F1 of each level; shape (..., levels, 3).

    0 where there is nothing to divide by, as scikit-learn has it with ``zero_division=0``: the precision of a level
    that is never predicted, the recall of one that never occurs.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    of_true, of_predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    scores = (divide(right, of_predicted), divide(right, of_true), divide(2 * right, of_true + of_predicted))
    return np.nan_to_num(np.stack(scores, axis=-1))


def _right(counts: Floats) -> Floats:
    return np.asarray(np.trace(counts, axis1=-2, axis2=-1))


MEASURES: MappingProxyType[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        "kappa": kappa,
        "quadratic_kappa": quadratic_kappa,
        "weighted_f1": weighted_f1,
        "accuracy": accuracy,
        "optimistic_bias": optimistic_bias,
    }
)
