"""From records to a commit: prepare a batch, and finish it with its judgements."""

from __future__ import annotations

import uuid
from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.scale import Floats
from labelstream.schemas.settings import Settings
from labelstream.schemas.tables import (
    CONSUMED,
    DEAD_LETTERS,
    ENGAGEMENT,
    LABELS,
    OUTCOMES,
    PRODUCTS,
    QUERIES,
    WAITING,
)
from labelstream.streaming.classify import WAITING_TOPIC, Classifier, Observation, Sorted
from labelstream.streaming.commit import Commit, OffsetRange, rows
from labelstream.streaming.engagement import engagement_rows
from labelstream.streaming.label_rows import JudgedPair, LabelRows
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.records import Known, Pending, RecordRange, known, waiting_record


@dataclass
class Batch:
    """A batch between reading and committing.

    Attributes:
        batch_id: Unique.
        ranges: What it consumes; empty for a batch of waiting events.
        sorted: Its records by what becomes of them.
        resolved: Rows of ``waiting`` that it takes off the list.
        failed: Pairs that could not be judged, by label key; known once the batch is finished.
        failed_before: The same of the batches that were in flight when this one was prepared: it relies on
            their judgements.
    """

    batch_id: str
    ranges: tuple[OffsetRange, ...]
    sorted: Sorted
    resolved: list[tuple[str, int, int]] = field(default_factory=list)
    failed: dict[str, BadRecord] = field(default_factory=dict)
    failed_before: tuple[Mapping[str, BadRecord], ...] = ()

    @property
    def pending(self) -> Pending:
        """What it will make known."""
        return self.sorted.pending

    @property
    def pairs(self) -> list[Observation]:
        """What must be judged, the pairs of one query together."""
        return sorted(self.sorted.to_judge.values(), key=lambda observation: observation.query)


class BatchBuilder:
    """Prepares and finishes batches.

    Args:
        settings: All settings.
        judge: Who judges; part of each label's identity.
        store: What the lake knows.
    """

    def __init__(self, settings: Settings, judge: JudgeDescription, store: LocalStore) -> None:
        self._label_rows = LabelRows(settings, judge)
        self._store = store
        self._classifier = Classifier(settings, judge.version)

    def prepare(self, ranges: Sequence[RecordRange], in_flight: Sequence[Batch]) -> Batch:
        """Sort the records of some ranges.

        Args:
            ranges: What was polled, in offset order within a range.
            in_flight: Batches before this one that are not committed yet, oldest first.
        """
        out = Sorted()
        with self._known(out, in_flight) as view:
            for record_range in ranges:
                source = out.add_source()
                for record in record_range.records:
                    self._classifier.add(record, source, view, out)
        return _batch(tuple(record_range.offsets for record_range in ranges), out, in_flight)

    def prepare_waiting(self, waiting: Sequence[Mapping[str, Any]], in_flight: Sequence[Batch]) -> Batch:
        """Take up events that had to wait and whose query and product are known by now.

        Args:
            waiting: Rows of ``Lake.resolvable``.
            in_flight: Batches before this one, oldest first.
        """
        out, source = Sorted(), 0
        out.add_source()
        with self._known(out, in_flight) as view:
            for found in waiting:
                row = {name: value for name, value in found.items() if name != "product_id"}
                row["object_id"] = found["product_id"]
                record = waiting_record(row)
                try:
                    self._classifier.join(row, record, source, view, out)
                except BadRecord as error:
                    out.bury(source, record, error, "join")
        return self._without_unresolved(_batch((), out, in_flight), waiting)

    def _known(self, out: Sorted, in_flight: Sequence[Batch]) -> AbstractContextManager[Known]:
        return known(self._store, [out.pending, *(batch.pending for batch in reversed(in_flight))])

    @staticmethod
    def _without_unresolved(batch: Batch, waiting: Sequence[Mapping[str, Any]]) -> Batch:
        """Events that wait on (this machine's store is behind the lake) stay on the list untouched."""
        out = batch.sorted
        still = set(map(_place, out.waiting))
        batch.resolved.extend(place for place in map(_place, waiting) if place not in still)
        out.waiting.clear()
        out.counts[0]["waiting"] = -len(batch.resolved)
        return batch

    def finish(
        self,
        batch: Batch,
        judgements: Judgements,
        cross_encoder_scores: Floats | None,
        cross_encoder_version: str | None,
    ) -> Commit:
        """Turn a judged batch into a commit.

        Args:
            batch: A prepared batch; batches are finished in the order in which they were prepared.
            judgements: One for each of ``batch.pairs``.
            cross_encoder_scores: Shape (pairs,), or None where no cross-encoder runs.
            cross_encoder_version: Which one.
        """
        pairs = batch.pairs
        batch.failed.update((pairs[index].label_key, error) for index, error in judgements.errors.items())
        kept = self._settle(batch)
        labels = self._label_rows.rows(
            [JudgedPair(pair.label_key, pair.query, pair.product.product_id, pair.product.hash) for pair in pairs],
            judgements,
            cross_encoder_scores=cross_encoder_scores,
            cross_encoder_version=cross_encoder_version,
        )
        tables = {
            LABELS.name: rows(LABELS, labels),
            ENGAGEMENT.name: rows(ENGAGEMENT, engagement_rows(kept)),
            QUERIES.name: rows(QUERIES, batch.sorted.queries),
            PRODUCTS.name: rows(PRODUCTS, [row for row in batch.sorted.products.values() if row is not None]),
            WAITING.name: rows(WAITING, batch.sorted.waiting),
            DEAD_LETTERS.name: rows(DEAD_LETTERS, batch.sorted.dead_letters),
            CONSUMED.name: rows(CONSUMED, _consumed_rows(batch)),
        }
        deleted = [product_id for product_id, row in batch.sorted.products.items() if row is None]
        sources = [pair.source for index, pair in enumerate(pairs) if index not in judgements.errors]
        return Commit(batch.batch_id, batch.ranges, tables, deleted, batch.resolved, sources)

    def _settle(self, batch: Batch) -> list[Observation]:
        """Count each observation as labelled, cached or dead; return the living."""
        failed = ChainMap(batch.failed, *batch.failed_before)  # type: ignore[arg-type]  # only read
        first = {observation.label_key: observation for observation in batch.pairs}
        kept = []
        for observation in batch.sorted.observations:
            error = failed.get(observation.label_key)
            if error is not None:
                batch.sorted.bury(observation.source, observation.record, error, "judge")
                continue
            outcome = "labelled" if first.get(observation.label_key) is observation else "cached"
            batch.sorted.counts[observation.source][outcome] += 1
            kept.append(observation)
        return kept


def _place(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["topic"], row["partition"], row["offset"]


def _batch(ranges: tuple[OffsetRange, ...], out: Sorted, in_flight: Sequence[Batch]) -> Batch:
    return Batch(uuid.uuid4().hex, ranges, out, failed_before=tuple(batch.failed for batch in in_flight))


def _consumed_rows(batch: Batch) -> list[dict[str, Any]]:
    # A batch of waiting events consumes no offsets; its counts stand under a name of their own.
    sources = batch.ranges or (OffsetRange(WAITING_TOPIC, -1, 0, 0),)
    now = datetime.now(UTC)
    return [
        {
            "batch_id": batch.batch_id,
            "topic": source.topic,
            "partition": source.partition,
            "first_offset": source.first,
            "next_offset": source.next,
            "records": sum(counts.values()),
            **_outcomes(counts),
            "ignored_by_action": sorted(ignored.items()),
            "committed_at": now,
        }
        for source, counts, ignored in zip(sources, batch.sorted.counts, batch.sorted.ignored, strict=True)
    ]


def _outcomes(counts: Counter[str]) -> dict[str, int]:
    return {outcome: counts[outcome] for outcome in OUTCOMES}
