"""Train a ranker when to stop has to be found out from the very queries that it is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.learning_settings import RankerSettings
from labelstream.schemas.scale import Floats
from labelstream.training.durable_files import storage_errors
from labelstream.training.features import FeatureTable
from labelstream.training.ranker import Ranker, Tell
from labelstream.training.ranker_distributed import train_distributed
from labelstream.training.ranking_rows import RankingSet, write_ranking_file
from labelstream.training.splits import query_holdouts

VALIDATION_SHARE = 0.2


def fit_ranker(
    features: FeatureTable,
    labels: Floats,
    queries: Sequence[str],
    settings: RankerSettings,
    *,
    label: str = "",
    storage: Path | None = None,
    tell: Tell | None = None,
) -> Ranker:
    """Train on four fifths of the queries and stop early by the rest.

    Args:
        features: Of each pair.
        labels: In [0, 1]; shape (pairs,).
        queries: Of each pair; at least two different ones.
        settings: How.
        label: What it is taught to rank high, in words.
        storage: Of ``train_distributed``; for more than one worker, on the Ray cluster that the caller is connected to.
        tell: Called after each tree, or now and then.

    Raises:
        SettingsError: Too few queries, nothing to order in them, or several workers without a storage.
        TransientError: The storage is full; several workers died, or found no room.
    """
    training, validation = next(query_holdouts(queries, share=VALIDATION_SHARE, seed=settings.seed))
    sets = [
        RankingSet.of(features.select(part), [queries[pair] for pair in part], labels[part])
        for part in (training, validation)
    ]
    if settings.workers == 1:
        return Ranker.train(sets[0], sets[1], settings, label=label, tell=tell)
    if storage is None:
        raise SettingsError(f"{settings.workers} workers of a ranker need a storage; give one, or take 1 worker")
    with storage_errors(storage):
        files = [
            write_ranking_file(storage / f"{name}.parquet", [rows])
            for name, rows in zip(("training", "validation"), sets, strict=True)
        ]
    return train_distributed(files[0], files[1], settings, storage=storage, label=label, tell=tell)
