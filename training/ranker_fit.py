"""Train a ranker when to stop has to be found out from the very queries that it is trained on."""

from __future__ import annotations

from collections.abc import Sequence

from labelstream.schemas.learning_settings import RankerSettings
from labelstream.schemas.scale import Floats
from labelstream.training.features import FeatureTable
from labelstream.training.ranker import Ranker
from labelstream.training.ranking_rows import RankingSet
from labelstream.training.splits import query_holdouts

VALIDATION_SHARE = 0.2


def fit_ranker(
    features: FeatureTable, labels: Floats, queries: Sequence[str], settings: RankerSettings, *, label: str = ""
) -> Ranker:
    """Train on four fifths of the queries and stop early by the rest.

    Args:
        features: Of each pair.
        labels: In [0, 1]; shape (pairs,).
        queries: Of each pair; at least two different ones.
        settings: How.
        label: What it is taught to rank high, in words.

    Raises:
        SettingsError: Too few queries, or nothing to order in them.
    """
    training, validation = next(query_holdouts(queries, share=VALIDATION_SHARE, seed=settings.seed))
    sets = [
        RankingSet.of(features.select(part), [queries[pair] for pair in part], labels[part])
        for part in (training, validation)
    ]
    return Ranker.train(sets[0], sets[1], settings, label=label)
