"""One snapshot of the lake as a task for a ranker: features from before a day, labels and truth from that day on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.learning_settings import EngagementSettings
from labelstream.schemas.ranking_label import RankingLabel
from labelstream.schemas.scale import Floats, LabelScale
from labelstream.streaming.lake import Lake
from labelstream.training.engagement import engagement_of
from labelstream.training.engagement_counts import read_counts
from labelstream.training.features import FeatureTable, build_features
from labelstream.training.gate import CONTENT, ENGAGEMENT
from labelstream.training.judgments import Integers
from labelstream.training.lexical import LexicalIndex
from labelstream.training.ranking_data import TrainingSnapshot, history_of, product_of
from labelstream.training.ranking_metrics import add_to_cart_share, has_more_than, ndcg, rank


@dataclass(frozen=True, eq=False)
class RankingTask:
    """Pairs of a snapshot, each with its features, its label and the truth to be measured by.

    Attributes:
        snapshot: Of the lake.
        until: First day of the window; features are from the days before it, labels from it on.
        queries: Shape (pairs,).
        product_ids: Shape (pairs,).
        features: Shape (pairs, features).
        content: The labeller's expected score; shape (pairs,), in [0, 1].
        engagement: Of the window, free of position and smoothed; shape (pairs,), in [0, 1].
        levels: The labeller's most probable level, 0 the worst; shape (pairs,).
        carts: Adds to cart in the window; shape (pairs,).
        judges: Fingerprints of the models that made the labels.
        words: Of the snapshot's catalogue.
    """

    snapshot: int
    until: date
    queries: tuple[str, ...]
    product_ids: tuple[str, ...]
    features: FeatureTable
    content: Floats
    engagement: Floats
    levels: Integers
    carts: Floats
    judges: tuple[str, ...]
    words: LexicalIndex

    def __len__(self) -> int:
        return len(self.queries)

    def labels(self, label: RankingLabel) -> Floats:
        """What a ranker is trained on; shape (pairs,), in [0, 1]."""
        return label.label(self.content, self.engagement)

    def measure(self, pairs: Integers, scores: Floats, *, cutoff: int) -> dict[str, Floats]:
        """Both measures of the gate for each query among some pairs.

        Args:
            pairs: All pairs of the queries that are measured.
            scores: A ranker's; shape (pairs,).
            cutoff: k of ATC@k. Of a query with no more products than that it says nothing.

        Returns:
            By the gate's name of the measure; shape (queries,), NaN where a query defines none.
        """
        ranking = rank([self.queries[i] for i in pairs], [self.product_ids[i] for i in pairs], scores)
        return {
            CONTENT: ndcg(ranking, self.levels[pairs].astype(float)),
            ENGAGEMENT: np.where(
                has_more_than(ranking, cutoff), add_to_cart_share(ranking, self.carts[pairs], k=cutoff), np.nan
            ),
        }


def read_task(
    lake: Lake, scale: LabelScale, engagement: EngagementSettings, *, window_days: int, snapshot: int | None = None
) -> RankingTask:
    """Read a task from the lake.

    Args:
        lake: Open, read-only or not.
        scale: Labels of another scale are left out.
        engagement: How actions are weighed.
        window_days: Days of the window, which ends with the newest day that the snapshot has engagement of.
        snapshot: Which state; None for the newest.

    Raises:
        SettingsError: No labels or no engagement in this snapshot, or none of this scale.
        TransientError: The lake is locked or its storage does not answer.
    """
    number = lake.snapshot if snapshot is None else snapshot
    until = window_start(lake, number, window_days)
    data = TrainingSnapshot(lake, until=until, snapshot=number)
    rows = _of_scale(data.table(), scale, number)
    queries, product_ids = (tuple(rows.column(name).to_pylist()) for name in ("query", "product_id"))
    scores = rows.column("cross_encoder_score").to_numpy()
    words = LexicalIndex(data.products())
    features = build_features(
        queries, [product_of(row) for row in rows.to_pylist()], words,
        cross_encoder_scores=np.asarray(scores, float), history=history_of(rows, until),
    )  # fmt: skip
    place = {level: number for number, level in enumerate(scale.levels)}
    return RankingTask(
        snapshot=number,
        until=until,
        queries=queries,
        product_ids=product_ids,
        features=features,
        content=np.clip(np.asarray(rows.column("expected_score").to_numpy(), float), 0.0, 1.0),
        engagement=engagement_of(lake, since=until, snapshot=number, settings=engagement).of(queries, product_ids),
        levels=np.array([place[level] for level in rows.column("level").to_pylist()], dtype=np.int64),
        carts=carts_since(lake, number, until, queries, product_ids),
        judges=tuple(sorted(set(rows.column("model_version").to_pylist()))),
        words=words,
    )


def split_queries(queries: Sequence[str], share: float) -> tuple[Integers, Integers]:
    """Pairs to train on and pairs that are held out, by a hash of the query.

    The same query falls on the same side in every run, whatever else the lake holds: so a champion was never trained
    on the queries that it and its challengers are measured by.

    Raises:
        SettingsError: One of the sides is empty.
    """
    held = {query: _share_of(query) < share for query in dict.fromkeys(queries)}
    mask = np.array([held[query] for query in queries])
    if mask.all() or not mask.any():
        raise SettingsError(f"{len(held)} queries are too few to hold {share:.0%} of them out; stream a longer log")
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _share_of(query: str) -> float:
    digest = hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return float(int.from_bytes(digest, "big")) / 2**64


def window_start(lake: Lake, snapshot: int, window_days: int) -> date:
    """First day of the window, which ends with the newest day of engagement.

    Raises:
        SettingsError: The snapshot has no engagement.
    """
    found = lake.query(f"SELECT max(day) FROM engagement AT (VERSION => {int(snapshot)})")[0][0]
    if not isinstance(found, date):
        raise SettingsError(f"snapshot {snapshot} holds no engagement; stream a search log with impressions first")
    return found - timedelta(days=window_days - 1)


def _of_scale(rows: pa.Table, scale: LabelScale, snapshot: int) -> pa.Table:
    kept = rows.filter(pa.compute.equal(rows.column("scale_version"), scale.version))
    if not len(kept):
        raise SettingsError(
            f"snapshot {snapshot}: no label is of the scale {list(scale.levels)}; set the labels' scale"
        )
    return kept


def carts_since(lake: Lake, snapshot: int, day: date, queries: Sequence[str], product_ids: Sequence[str]) -> Floats:
    """Adds to cart of pairs from a day on; shape (pairs,).

    Args:
        lake: Open, read-only or not.
        snapshot: Which state.
        day: The first.
        queries: Normalised.
        product_ids: One for each query.
    """
    counts = read_counts(lake, since=day, snapshot=snapshot)
    sums = np.bincount(counts.pair, counts.actions[:, 1], len(counts.queries))
    known = dict(zip(zip(counts.queries, counts.product_ids, strict=True), sums.tolist(), strict=True))
    return np.array([known.get(pair, 0.0) for pair in zip(queries, product_ids, strict=True)])
