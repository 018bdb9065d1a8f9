"""Engagement of a (query, product) pair: rates of clicks, carts and purchases, freed from position, smoothed.

1. An impression at rank k is θ_k of a look; see ``training.examination`` for θ.
2. Actions per look are shrunk by a Beta prior: (actions + u · mean · strength) / (looks + strength). Mean and strength
   follow from the moments of all pairs (Marshall, Applied Statistics 40, 1991). u, below 1, lets rare pairs begin under
   the mean: a product is seldom seen because the shop's ranker put it low, and not by chance.
3. The rates are added with the weights of the actions and divided by the best of the query, or by the mean pair where
   that is better. Per query, because the ranker compares only within one and queries differ in how much is clicked; a
   ratio and not a quantile, because twice the engagement must stay twice as much; and never by less than the mean pair,
   so that the least bad product of a query that nobody clicks is not made a winner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from labelstream.schemas.keys import normalise_query
from labelstream.schemas.learning_settings import EngagementSettings
from labelstream.schemas.scale import Floats
from labelstream.training.engagement_counts import EngagementCounts, Integers, read_counts
from labelstream.training.examination import Examination, estimate_examination

if TYPE_CHECKING:
    from labelstream.streaming.lake import Lake

_STRONGEST_PRIOR = 1e6  # looks; pairs that differ by no more than chance all get the mean


class RatePrior(NamedTuple):
    """Mean of a rate over all pairs, and how many looks of a pair weigh as much as that."""

    mean: float
    strength: float


@dataclass(frozen=True, eq=False)
class Engagement:
    """Engagement of the pairs that were seen, and what to expect of all others.

    Attributes:
        queries: Normalised query of each pair; shape (pairs,).
        product_ids: Shape (pairs,).
        looks: Expected examinations, Σ θ_k · impressions; shape (pairs,).
        rates: Smoothed clicks, carts and purchases per look; shape (pairs, 3), in [0, 1].
        values: Rates weighted by the worth of the actions; shape (pairs,), in [0, 1].
        engagement: Values over the best of the query (see the module); shape (pairs,), in [0, 1].
        priors: Of the three rates.
        mean_value: The value of the mean pair.
        unseen_value: The value of a pair that nobody has seen.
        examination: The θ that was found.
        pairs_without_impressions: Pairs with more actions than impressions; each surplus action counts as an
            impression without a position.
    """

    queries: tuple[str, ...]
    product_ids: tuple[str, ...]
    looks: Floats
    rates: Floats
    values: Floats
    engagement: Floats
    priors: tuple[RatePrior, ...]
    mean_value: float
    unseen_value: float
    examination: Examination
    pairs_without_impressions: int

    def of(self, queries: Sequence[str], product_ids: Sequence[str]) -> Floats:
        """Engagement of any pairs; one that was never seen has the unseen value.

        Args:
            queries: In any spelling that normalises to the same.
            product_ids: One for each query.

        Returns:
            Shape (pairs,), in [0, 1].
        """
        normalised = {query: normalise_query(query) for query in dict.fromkeys(queries)}
        asked = [normalised[query] for query in queries]
        known = dict(zip(zip(self.queries, self.product_ids, strict=True), self.values.tolist(), strict=True))
        values = np.array([known.get(pair, self.unseen_value) for pair in zip(asked, product_ids, strict=True)])
        best = _best_values(self.queries, self.values, self.mean_value)
        return _relative(values, [best.get(query, self.mean_value) for query in asked])


def estimate_engagement(counts: EngagementCounts, settings: EngagementSettings | None = None) -> Engagement:
    """Engagement from counts (see the module)."""
    settings = settings or EngagementSettings()
    pairs = len(counts.queries)
    examination = estimate_examination(counts, deepest_rank=settings.deepest_rank)
    done = np.stack([_sums(counts.pair, column, pairs) for column in counts.actions.T], axis=1)
    surplus = np.maximum(done.max(axis=1) - _sums(counts.pair, counts.impressions, pairs), 0)
    looks = _sums(counts.pair, counts.impressions * examination.at(counts.position), pairs)
    looks += surplus * examination.mean
    priors = tuple(moment_prior(column, looks) for column in done.T)
    means, strengths = np.array(priors).T
    expected = np.minimum(means, 1.0)
    begun = settings.unseen_share * expected
    rates = np.minimum((done + begun * strengths) / (looks[:, None] + strengths), 1.0)
    values, mean_value = rates @ settings.weights, float(expected @ settings.weights)
    best = _best_values(counts.queries, values, mean_value)
    return Engagement(
        queries=counts.queries,
        product_ids=counts.product_ids,
        looks=looks,
        rates=rates,
        values=values,
        engagement=_relative(values, [best[query] for query in counts.queries]),
        priors=priors,
        mean_value=mean_value,
        unseen_value=float(begun @ settings.weights),
        examination=examination,
        pairs_without_impressions=int(np.count_nonzero(surplus)),
    )


def moment_prior(actions: Floats, looks: Floats) -> RatePrior:
    """Prior of the rates by the method of moments (Marshall 1991, the global estimator).

    The spread of the rates, weighted by looks, less what chance alone gives, is the spread of the pairs themselves.

    Args:
        actions: Shape (pairs,).
        looks: Expected examinations; shape (pairs,).
    """
    if not actions.any():
        return RatePrior(0.0, _STRONGEST_PRIOR)
    total = looks.sum()
    mean = float(actions.sum() / total)
    rates = np.divide(actions, looks, out=np.full(len(looks), mean), where=looks > 0)
    by_chance = mean * np.count_nonzero(looks) / total
    spread = float(looks @ (rates - mean) ** 2 / total - by_chance)
    return RatePrior(mean, mean / max(spread, mean / _STRONGEST_PRIOR))


def _sums(pair: Integers, column: Integers | Floats, pairs: int) -> Floats:
    return np.asarray(np.bincount(pair, column, pairs), np.float64)


def _best_values(queries: Sequence[str], values: Floats, least: float) -> dict[str, float]:
    best: dict[str, float] = {}
    for query, value in zip(queries, values.tolist(), strict=True):
        best[query] = max(value, best.get(query, least))
    return best


def _relative(values: Floats, best: Iterable[float]) -> Floats:
    """Share of the best; 0 where nothing was ever done."""
    whole = np.fromiter(best, np.float64, len(values))
    return np.divide(values, whole, out=np.zeros(len(values)), where=whole > 0)


def engagement_of(
    lake: Lake,
    until: date | None = None,
    since: date | None = None,
    *,
    snapshot: int | None = None,
    settings: EngagementSettings | None = None,
) -> Engagement:
    """Engagement from the lake's counts of the days in [since, until); see :func:`read_counts`.

    Raises:
        SettingsError: Nothing was counted in these days, or the lake does not have this snapshot.
        TransientError: The lake is locked or its storage does not answer.
    """
    return estimate_engagement(read_counts(lake, until, since, snapshot=snapshot), settings)
