"""Small lakes, records and commits for tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from standins import JUDGE, uniform

from labelstream.schemas.judgements import Judgements
from labelstream.schemas.product import Product
from labelstream.schemas.settings import LakeSettings, Settings, StoreSettings
from labelstream.schemas.tables import CONSUMED, LABELS, OUTCOMES, PRODUCTS, QUERIES, WAITING
from labelstream.streaming.batch import Batch, BatchBuilder
from labelstream.streaming.commit import Commit, OffsetRange, rows
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.product_rows import product_row
from labelstream.streaming.records import Record, RecordRange
from labelstream.streaming.writer import LakeWriter
from labelstream.training.ranking_data import TrainingSnapshot

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
EVENTS, PRODUCT_TOPIC = "search-events", "products"


def lake_settings(folder: Path, **options: Any) -> LakeSettings:
    return LakeSettings(catalog=f"sqlite:{folder}/lake.sqlite", data_path=f"{folder}/data", **options)


def all_settings(folder: Path, **sections: Any) -> Settings:
    store = StoreSettings(path=folder / "store", max_bytes=256 << 20)
    return Settings(**({"lake": lake_settings(folder), "store": store} | sections))


def query_rows(*query_ids: str, text: str = "red sofa") -> Any:
    row = {"user_query": text, "client_id": None, "application": None, "occurred_at": MOMENT}
    return rows(QUERIES, [row | {"query_id": query_id} for query_id in query_ids])


def product_rows(*products: Product) -> Any:
    return rows(PRODUCTS, [product_row(product, MOMENT) for product in products])


def label_rows(*keys: int) -> Any:
    row = {
        "query": "red sofa", "product_id": "p", "product_hash": "h", "probabilities": [0.25, 0.25, 0.5],
        "level": "high", "expected_score": 0.5, "polarized_score": 0.5,
        "polarization_alpha": None, "polarization_beta": None,
        "temperature": 1.0, "shortened": False, "cross_encoder_score": None, "cross_encoder_version": None,
        "model_version": "m", "prompt_version": "p", "scale_version": "s", "judged_at": MOMENT,
    }  # fmt: skip
    return rows(LABELS, [row | {"label_key": f"{key:032x}"} for key in keys])


def waiting_rows(first: int, *object_ids: str, query_id: str | None = "q", query: str | None = None) -> Any:
    row = {
        "topic": EVENTS, "partition": 0, "query_id": query_id, "user_query": query, "object_id_field": None,
        "action": "click", "position": 1, "occurred_at": MOMENT, "key": None, "value": b"{}",
    }  # fmt: skip
    return rows(WAITING, [row | {"offset": first + i, "object_id": o} for i, o in enumerate(object_ids)])


def consumed_rows(commit_id: str, ranges: Sequence[OffsetRange], **counts: int) -> Any:
    none = dict.fromkeys(OUTCOMES, 0)
    row = {"batch_id": commit_id, "ignored_by_action": [], "committed_at": MOMENT, "records": sum(counts.values())}
    places = [
        {"topic": r.topic, "partition": r.partition, "first_offset": r.first, "next_offset": r.next} for r in ranges
    ]
    return rows(CONSUMED, [row | none | counts | place for place in places])


def a_commit(first: int, count: int = 1, partition: int = 0, tables: Any = None, **changes: Any) -> Commit:
    """A commit of ``count`` queries of one partition, or of the given tables."""
    commit_id = uuid.uuid4().hex
    ranges = (OffsetRange(EVENTS, partition, first, first + count),)
    if tables is None:
        tables = {QUERIES.name: query_rows(*(f"{partition}-{first + i}" for i in range(count)))}
    labelled = tables[LABELS.name].num_rows if LABELS.name in tables else 0
    counts = {"labelled": labelled, "queries": count - labelled}
    tables = {CONSUMED.name: consumed_rows(commit_id, ranges, **counts), **tables}
    return Commit(commit_id, ranges, tables, **({"label_ranges": [0] * labelled} | changes))


def requested(*keys: int) -> Commit:
    """A commit of labels that somebody asked for, which consume nothing."""
    return Commit(uuid.uuid4().hex, (), {LABELS.name: label_rows(*keys)})


def training_table(training: TrainingSnapshot) -> pa.Table:
    """The whole training set."""
    return pa.Table.from_batches(training.batches())


def count(lake: Lake, table: str) -> int:
    return int(lake.query(f"SELECT count(*) FROM {table}")[0][0])


def record(offset: int, message: Any, *, topic: str = EVENTS, partition: int = 0, key: bytes | None = None) -> Record:
    value = message if message is None or isinstance(message, bytes) else json.dumps(message).encode()
    return Record(topic, partition, offset, key, value, (("h", b"\xff"),), MOMENT)


def product_record(offset: int, product_id: str, **fields: Any) -> Record:
    message = {"product_id": product_id, "title": f"Sofa {product_id}"} | fields
    return record(offset, message, topic=PRODUCT_TOPIC, key=product_id.encode())


def tombstone(offset: int, product_id: str) -> Record:
    return record(offset, None, topic=PRODUCT_TOPIC, key=product_id.encode())


def pair(offset: int, query: str, product_id: str, **fields: Any) -> Record:
    return record(offset, {"query": query, "product_id": product_id} | fields)


def query(offset: int, query_id: str, text: str) -> Record:
    return record(offset, {"query_id": query_id, "user_query": text})


def click(offset: int, query_id: str, object_id: str, action: str = "click") -> Record:
    attributes = {"object": {"object_id": object_id}, "position": {"ordinal": 2}}
    return record(offset, {"action_name": action, "query_id": query_id, "event_attributes": attributes})


def ranges_of(records: Sequence[Record]) -> list[RecordRange]:
    """One range for each partition, in the order in which they come up."""
    parts: dict[tuple[str, int], list[Record]] = {}
    for one in records:
        parts.setdefault((one.topic, one.partition), []).append(one)
    return [RecordRange(OffsetRange(*p, some[0].offset, some[-1].offset + 1), some) for p, some in parts.items()]


class Bench:
    """A lake, its store, and what makes and commits batches."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.settings = all_settings(folder, **sections)
        self.writer = LakeWriter(self.settings)
        # LMDB can be opened once a process, so the builder looks through the writer's.
        self.store: LocalStore = self.writer._store
        self.lake: Lake = self.writer._lake
        self.builder = BatchBuilder(self.settings, JUDGE, self.store)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def prepare(self, *records: Record, in_flight: Sequence[Batch] = ()) -> Batch:
        return self.builder.prepare(ranges_of(records), in_flight)

    def finish(self, batch: Batch, judgements: Judgements | None = None) -> Commit:
        return self.builder.finish(batch, judgements or uniform(len(batch.pairs)), None, None)

    def take(self, *records: Record) -> Batch:
        """Prepare, judge and commit."""
        batch = self.prepare(*records)
        self.writer.commit(self.finish(batch))
        return batch

    def resolve(self, limit: int = 100) -> Batch:
        """Take up waiting events, judge and commit."""
        batch = self.builder.prepare_waiting(self.writer.resolvable(limit).rows, ())
        self.writer.commit(self.finish(batch))
        return batch

    def totals(self) -> dict[str, int]:
        """Counts that are not zero."""
        return {name: number for name, number in self.writer.totals().items() if number}


@contextmanager
def filled_lake(folder: Path, fill: Callable[[Bench], object]) -> Iterator[Lake]:
    """A lake that is filled once, for tests that only read."""
    with Bench(folder) as bench:
        fill(bench)
    with Lake(lake_settings(folder), read_only=True) as lake:
        yield lake
