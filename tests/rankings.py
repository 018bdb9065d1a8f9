"""Made-up rows for rankers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.learning_settings import RankerSettings
from labelstream.training.features import FeatureTable
from labelstream.training.ranking_rows import RankingSet

NAMES = ("telling", "helpful", "holes", "noise")
QUICK = RankerSettings(rounds=30, learning_rate=0.2, feature_share=1.0)


def some_features(rows: int, seed: int = 1) -> FeatureTable:
    """Features of which the third is missing now and then."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, len(NAMES))).astype(np.float32)
    values[rng.random(rows) < 0.3, 2] = np.nan
    return FeatureTable(NAMES, values)


def fractions(features: FeatureTable) -> NDArray[np.float64]:
    """Labels that follow the features, all of them in (0, 1): cut to whole numbers they would all be 0."""
    telling, helpful, holes, _ = np.nan_to_num(features.values.astype(np.float64)).T
    return np.asarray(0.98 / (1 + np.exp(-(2 * telling + helpful * (telling > 0) + holes))))


def some_rows(queries: int = 20, products: int = 15, seed: int = 1) -> RankingSet:
    """Rows of queries of equal size."""
    features = some_features(queries * products, seed)
    numbers = np.repeat(np.arange(queries), products)
    return RankingSet(features, numbers, fractions(features).astype(np.float32))


def agreement(rows: RankingSet, scores: NDArray[np.float32]) -> float:
    """Share of the pairs of a query that the scores order as the labels do."""
    right = total = 0
    for query in np.unique(rows.query_numbers):
        mine = rows.query_numbers == query
        label, score = rows.labels[mine], scores[mine]
        above = label[:, None] > label[None, :]
        right += np.count_nonzero(above & (score[:, None] > score[None, :]))
        total += np.count_nonzero(above)
    return right / total
