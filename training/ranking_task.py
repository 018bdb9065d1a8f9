"""One snapshot of the lake as a task for a ranker: features from before a day, labels and truth from that day on."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

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
from labelstream.training.ranking_data import PRODUCT_COLUMNS, TrainingSnapshot, history_of, product_of
from labelstream.training.ranking_metrics import add_to_cart_share, ndcg, rank


class Window(NamedTuple):
    """The newest days of a snapshot: labels and measures are from them, features from before.

    Attributes:
        first: Day, in UTC.
        end: The day after the last.
    """

    first: date
    end: date


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
        """What a ranker is trained on; shape (pairs,), in [0, 1].

        Raises:
            SettingsError: The label wants engagement, and nobody did anything in the window: it would be another label.
        """
        if label.preset != "content_only" and not self.engagement.any():
            remedy = "stream a log with clicks, take more days, or a label that starts with content_"
            raise SettingsError(f"from {self.until} on there is no click, cart or purchase to learn from; {remedy}")
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
            ENGAGEMENT: add_to_cart_share(ranking, self.carts[pairs], k=cutoff),
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
    window = newest_days(lake, number, window_days)
    data = TrainingSnapshot(lake, until=window.first, snapshot=number)
    words = LexicalIndex.of_unique(data.products())
    rows = _read_rows(data, scale, words)
    queries, product_ids = rows.queries, rows.product_ids
    seen = engagement_of(lake, window.end, window.first, snapshot=number, settings=engagement)
    return RankingTask(
        snapshot=number,
        until=window.first,
        queries=queries,
        product_ids=product_ids,
        features=rows.features,
        content=rows.content,
        engagement=seen.of(queries, product_ids),
        levels=rows.levels,
        carts=carts_in(lake, number, window, queries, product_ids),
        judges=rows.judges,
        words=words,
    )


class _Rows(NamedTuple):
    """What a task takes from the labels; see there."""

    queries: tuple[str, ...]
    product_ids: tuple[str, ...]
    features: FeatureTable
    content: Floats
    levels: Integers
    judges: tuple[str, ...]


def _read_rows(data: TrainingSnapshot, scale: LabelScale, words: LexicalIndex) -> _Rows:
    """Read the pairs some queries at a time: the products' texts are the bulk, and only features stay of them."""
    parts = [part for table in data.whole_queries() if (part := _of_scale(table, data.until, scale, words))]
    if not parts:
        raise SettingsError(
            f"snapshot {data.snapshot}: no label is of the scale {list(scale.levels)}; set the labels' scale"
        )
    queries, product_ids, features, content, levels, judges = zip(*parts, strict=True)
    return _Rows(
        tuple(itertools.chain(*queries)),
        tuple(itertools.chain(*product_ids)),
        FeatureTable(features[0].names, np.concatenate([part.values for part in features])),
        np.concatenate(content),
        np.concatenate(levels),
        tuple(sorted(set(itertools.chain(*judges)))),
    )


def _of_scale(table: pa.Table, until: date, scale: LabelScale, words: LexicalIndex) -> _Rows | None:
    """Whole queries without the labels of other scales; None where none is left."""
    rows = table.filter(pa.compute.equal(table["scale_version"], scale.version))
    if not rows.num_rows:
        return None
    # The same text many times over is kept once.
    queries, product_ids = (tuple(map(sys.intern, rows[name].to_pylist())) for name in ("query", "product_id"))
    features = build_features(
        queries, [product_of(row) for row in rows.select(PRODUCT_COLUMNS).to_pylist()], words,
        cross_encoder_scores=np.asarray(rows["cross_encoder_score"].to_numpy(), float),
        history=history_of(rows, until),
    )  # fmt: skip
    place = {level: number for number, level in enumerate(scale.levels)}
    return _Rows(
        queries,
        product_ids,
        features,
        np.clip(np.asarray(rows["expected_score"].to_numpy(), float), 0.0, 1.0),
        np.array([place[level] for level in rows["level"].to_pylist()], dtype=np.int64),
        tuple(pa.compute.unique(rows["model_version"]).to_pylist()),
    )


def split_queries(queries: Sequence[str], share: float) -> tuple[Integers, Integers]:
    """Pairs to train on and pairs that are held out, by a hash of the query.

    The same query falls on the same side in every run, whatever else the lake holds: so a champion was never trained
    on the queries that it and its challengers are measured by. A larger share adds queries, on which it may have been.

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


def newest_days(lake: Lake, snapshot: int, days: int) -> Window:
    """The window: so many days, the last of them the newest one of engagement.

    Days later than the one after the snapshot was made do not count: an event with a wrong clock would otherwise hold
    the window in a far future for good. By the snapshot's own time, so that the same snapshot gives the same window.

    Args:
        lake: Open, read-only or not.
        snapshot: Which state.
        days: At least 1.

    Raises:
        SettingsError: The snapshot has no engagement up to that day.
    """
    number = lake.known_snapshot(snapshot)
    latest = lake.made_on(number) + timedelta(days=1)
    [(last,)] = lake.query(f"SELECT max(day) FROM engagement AT (VERSION => {number}) WHERE day <= ?", [latest])
    if last is None:
        remedy = "stream a search log with impressions first"
        raise SettingsError(f"snapshot {number} holds no engagement of days up to {latest}; {remedy}")
    return Window(last - timedelta(days=days - 1), last + timedelta(days=1))


def carts_in(lake: Lake, snapshot: int, window: Window, queries: Sequence[str], product_ids: Sequence[str]) -> Floats:
    """Adds to cart of pairs in a window; shape (pairs,).

    Args:
        lake: Open, read-only or not.
        snapshot: Which state.
        window: Which days.
        queries: Normalised.
        product_ids: One for each query.
    """
    counts = read_counts(lake, window.end, window.first, snapshot=snapshot)
    sums = np.bincount(counts.pair, counts.actions[:, 1], len(counts.queries))
    known = dict(zip(zip(counts.queries, counts.product_ids, strict=True), sums.tolist(), strict=True))
    return np.array([known.get(pair, 0.0) for pair in zip(queries, product_ids, strict=True)])
