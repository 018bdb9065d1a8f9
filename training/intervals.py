"""Bootstrap intervals over queries (Efron 1979; for search measures Sakai 2006).

Pairs of one query are not independent, so whole queries are drawn with replacement and all their pairs with them (the
cluster bootstrap). Every measure here is a function of sums over queries, so a resample is a weighted sum, and a
thousand of them are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from labelstream.schemas.scale import Floats
from labelstream.training.confusion_counts import divide

DEFAULT_RESAMPLES = 1000
CONFIDENCE = 0.95
# Of the weights, a block of resamples at a time is held in memory.
_WEIGHTS_AT_ONCE = 4_000_000

# From sums of shape (..., *summed) to a measure of shape (..., *measured).
Statistic = Callable[[Floats], Floats]


def sums_of_values(values: Floats) -> Floats:
    """Make of one value a query what :func:`mean` takes.

    Args:
        values: NaN for a query that has none; shape (queries,).

    Returns:
        The value and 1, or 0 and 0; shape (queries, 2).
    """
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0.0), known], axis=1)


def mean(sums: Floats) -> Floats:
    """The mean over the queries that have a value, of sums of shape (..., 2); NaN where none has."""
    return divide(sums[..., 0], sums[..., 1])


def resampled(sums: Floats, statistic: Statistic, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0) -> Floats:
    """Draw as many queries as there are, with replacement, again and again.

    Args:
        sums: What each query adds; shape (queries, *summed).
        statistic: The measure of a sum over queries.
        resamples: How many draws.
        seed: The same seed, resamples and number of queries give the same draws, whatever is measured.

    Returns:
        The measure of each draw, NaN where it is not defined; shape (resamples, *measured).
    """
    queries = len(sums)
    if not queries or resamples < 1:
        raise ValueError(f"cannot draw {resamples} times from {queries} queries")
    generator = np.random.default_rng(seed)
    flat = sums.reshape(queries, -1)
    block = max(1, _WEIGHTS_AT_ONCE // queries)
    measured = []
    for first in range(0, resamples, block):
        size = min(block, resamples - first)
        weights = generator.multinomial(queries, np.full(queries, 1 / queries), size=size)
        measured.append(statistic((weights @ flat).reshape(size, *sums.shape[1:])))
    return np.concatenate(measured)


def interval(
    sums: Floats,
    statistic: Statistic,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[Floats, Floats]:
    """The percentile interval of a measure.

    Args:
        sums: What each query adds; shape (queries, *summed).
        statistic: The measure of a sum over queries.
        resamples: How many draws.
        seed: Of the draws.
        confidence: Share of the draws that lie between the bounds.

    Returns:
        Low and high, each of shape (*measured). Draws in which the measure is not defined are left out; NaN where it
        never is, and of a single query, which says nothing of another.
    """
    measured = resampled(sums, statistic, resamples=resamples, seed=seed)
    if len(sums) == 1:
        measured = np.full_like(measured, np.nan)
    return _percentiles(measured, confidence)


class Draws(NamedTuple):
    """How to draw, and measures with their intervals in the form of JSON.

    Attributes:
        resamples: How many draws.
        seed: Of the draws.
    """

    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0

    def measured(self, value: float, sums: Floats, statistic: Statistic) -> Measured:
        """One number and its interval."""
        low, high = interval(sums, statistic, resamples=self.resamples, seed=self.seed)
        return measured(value, float(low), float(high))


Measured = dict[str, float | None]


def measured(value: float, low: float, high: float) -> Measured:
    """A measure in the form of JSON: ``{value, low, high}``."""
    return {"value": number_or_none(value), "low": number_or_none(low), "high": number_or_none(high)}


def number_or_none(value: float) -> float | None:
    """JSON has no NaN: what is not defined is null."""
    return value if math.isfinite(value) else None


def _percentiles(measured: Floats, confidence: float) -> tuple[Floats, Floats]:
    tail = (1 - confidence) / 2
    defined = ~np.isnan(measured)
    # numpy warns of columns with nothing in them, so they are left to the NaN that they start from.
    some = defined.any(axis=0)
    bounds = np.full((2, *measured.shape[1:]), np.nan)
    if some.any():
        bounds[:, some] = np.nanquantile(measured[:, some], [tail, 1 - tail], axis=0)
    return bounds[0], bounds[1]


@dataclass(frozen=True)
class PairedDifference:
    """A challenger against a champion on the same queries.

    Attributes:
        difference: Challenger minus champion.
        low: Lower bound of its interval, NaN of a single query.
        high: Upper bound of its interval, NaN of a single query.
        queries: How many were compared.
    """

    difference: float
    low: float
    high: float
    queries: int


def paired_difference(
    champion: Floats,
    challenger: Floats,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> PairedDifference:
    """Compare the means of two systems by their values on the same queries.

    Args:
        champion: One value a query; shape (queries,).
        challenger: The same queries in the same order. Queries where either has NaN are left out.
        resamples: How many draws.
        seed: Of the draws.
        confidence: Of the interval.

    Raises:
        ValueError: Different numbers of queries, or none on which both have a value.
    """
    if champion.shape != challenger.shape:
        raise ValueError(f"values of {champion.shape} and {challenger.shape} queries cannot be paired")
    # The differences themselves are drawn: of two systems that are equal each is exactly 0.
    differences = challenger - champion
    sums = sums_of_values(differences[~np.isnan(differences)])
    low, high = interval(sums, mean, resamples=resamples, seed=seed, confidence=confidence)
    return PairedDifference(float(mean(sums.sum(axis=0))), float(low), float(high), len(sums))
