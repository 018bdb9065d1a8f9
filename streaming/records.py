"""Kafka records and what is known while their batch is on its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from labelstream.schemas.errors import LabelstreamError
from labelstream.streaming.commit import OffsetRange
from labelstream.streaming.known_product import KnownProduct
from labelstream.streaming.local_store import LocalStore, StoreReader


class Record(NamedTuple):
    """One Kafka record, bytes as they came."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: datetime | None = None

    @property
    def happened_at(self) -> datetime:
        """The record's own time, for messages that do not carry one."""
        return self.timestamp or datetime.now(UTC)


def moment_of(timestamp_ms: int | None) -> datetime | None:
    """A Kafka timestamp; None where the producer set none, or one that no calendar has."""
    if timestamp_ms is None or timestamp_ms < 0:
        return None
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class RecordRange(NamedTuple):
    """Consecutive records of one partition, and the offsets that they stand for."""

    offsets: OffsetRange
    records: Sequence[Record]


def as_it_came(record: Record) -> dict[str, Any]:
    """The columns of ``waiting`` and ``dead_letters`` that hold a record, untouched."""
    return record._asdict() | {"headers": [{"name": name, "value": value} for name, value in record.headers]}


def waiting_record(row: Mapping[str, Any]) -> Record:
    """The record that a row of ``waiting`` was, as it came."""
    headers = tuple((header["name"], header["value"]) for header in row["headers"])
    return Record(row["topic"], row["partition"], row["offset"], row["key"], row["value"], headers, row["timestamp"])


def dead_letter_row(record: Record, error: LabelstreamError, stage: str) -> dict[str, Any]:
    """A row of ``dead_letters``: the record untouched, and what is wrong with it."""
    return as_it_came(record) | {
        "stage": stage,
        "error": type(error).__name__,
        "message": str(error)[:1000],
        "field": getattr(error, "field", "")[:200],
        "failed_at": datetime.now(UTC),
    }


@dataclass
class Pending:
    """What a batch will make known once it is committed."""

    products: dict[str, KnownProduct | None] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)

    def put_product(self, product: KnownProduct) -> None:
        """A product that the batch adds or replaces."""
        self.products[product.product_id] = product
        self.aliases.update(dict.fromkeys(product.alternative_ids, product.product_id))

    def delete_product(self, product_id: str) -> None:
        """A product that the batch deletes."""
        self.products[product_id] = None


class Known:
    """The store seen through the batches on their way, newest first, beginning with the one at hand.

    A query and its events follow each other closely, so an event often needs what the same or an earlier batch
    has read but not committed yet.
    """

    def __init__(self, reader: StoreReader, pending: Iterable[Pending]) -> None:
        self._reader = reader
        self._pending = tuple(pending)

    def product(self, reference: str) -> KnownProduct | None:
        """A product by its own id, else by an alternative id that it still has."""
        found = self._product_by_id(reference)
        if found is None:
            owner = self._owner_of(reference)
            found = None if owner is None else self._product_by_id(owner)
            if found is not None and reference not in found.alternative_ids:
                return None
        return found

    def _product_by_id(self, product_id: str) -> KnownProduct | None:
        for pending in self._pending:
            if product_id in pending.products:
                return pending.products[product_id]
        return self._reader.product_by_id(product_id)

    def _owner_of(self, alternative_id: str) -> str | None:
        for pending in self._pending:
            if alternative_id in pending.aliases:
                return pending.aliases[alternative_id]
        return self._reader.owner_of(alternative_id)

    def query(self, query_id: str) -> str | None:
        """What was typed under a query id."""
        for pending in self._pending:
            if query_id in pending.queries:
                return pending.queries[query_id]
        return self._reader.query(query_id)

    def has_label(self, label_key: str) -> bool:
        """Whether this judgement is made or on its way."""
        return any(label_key in pending.labels for pending in self._pending) or self._reader.has_label(label_key)


@contextmanager
def known(store: LocalStore, pending: Iterable[Pending]) -> Iterator[Known]:
    """Look-ups for one batch."""
    with store.reader() as reader:
        yield Known(reader, pending)
