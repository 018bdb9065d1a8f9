"""What each record is, and what becomes of it: the join of log and catalogue."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.keys import JudgeVersion, label_key, normalise_query
from labelstream.schemas.messages import Engagement, Pair, UbiEvent, UbiQuery, parse_product, parse_search_event
from labelstream.schemas.settings import Settings
from labelstream.streaming.known_product import KnownProduct
from labelstream.streaming.product_rows import product_row
from labelstream.streaming.records import Known, Pending, Record, as_it_came, dead_letter_row

EMPTY_QUERY = "(empty query)"
OTHER_ACTIONS = "(other)"
MAX_ACTIONS_COUNTED = 50
WAITING_TOPIC = "(waiting)"


class Observation(NamedTuple):
    """One event about one pair, joined with its query and its product."""

    source: int
    record: Record
    label_key: str
    query: str
    product: KnownProduct
    action: Engagement | None
    position: int | None
    occurred_at: datetime


@dataclass
class Sorted:
    """The records of a batch by what becomes of them.

    Attributes:
        counts: One counter of outcomes for each source (a partition, or the waiting list).
        ignored: One counter of ignored actions for each source.
        to_judge: The first observation of each pair that nobody has judged.
    """

    pending: Pending = field(default_factory=Pending)
    queries: list[dict[str, Any]] = field(default_factory=list)
    products: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    to_judge: dict[str, Observation] = field(default_factory=dict)
    counts: list[Counter[str]] = field(default_factory=list)
    ignored: list[Counter[str]] = field(default_factory=list)

    def add_source(self) -> int:
        """Begin to count another source."""
        self.counts.append(Counter())
        self.ignored.append(Counter())
        return len(self.counts) - 1

    def ignore(self, source: int, kind: str) -> None:
        """Count a record that is none of our business."""
        kinds = self.ignored[source]
        kinds[kind if kind in kinds or len(kinds) < MAX_ACTIONS_COUNTED else OTHER_ACTIONS] += 1
        self.counts[source]["ignored"] += 1

    def bury(self, source: int, record: Record, error: BadRecord, stage: str) -> None:
        """Send a record to the dead letters."""
        self.dead_letters.append(dead_letter_row(record, error, stage))
        self.counts[source]["dead_lettered"] += 1


class Classifier:
    """Sorts the records of one batch; holds nothing between batches.

    Args:
        settings: Topics, actions and limits.
        judge: Versions that make a judgement's identity.
    """

    def __init__(self, settings: Settings, judge: JudgeVersion) -> None:
        self._events = settings.events
        self._products_topic = settings.kafka.products_topic
        self._judge = judge

    def add(self, record: Record, source: int, known: Known, out: Sorted) -> None:
        """Decide what one record is; exactly one outcome is counted."""
        try:
            self._check_size(record)
            if record.topic == self._products_topic:
                self._add_product(record, source, out)
            else:
                self._add_search_event(record, source, known, out)
        except BadRecord as error:
            out.bury(source, record, error, "read")

    def _check_size(self, record: Record) -> None:
        size, limit = len(record.value or b""), self._events.max_record_bytes
        if size > limit:
            raise BadRecord(
                f"the record has {size} bytes; send at most {limit}, or raise LABELSTREAM_EVENTS_MAX_RECORD_BYTES"
            )

    def _add_product(self, record: Record, source: int, out: Sorted) -> None:
        if record.value is None:
            self._delete_product(record, out)
        else:
            product = parse_product(record.value)
            out.products[product.product_id] = product_row(product, record.happened_at)
            out.pending.put_product(KnownProduct.of(product))
        out.counts[source]["products"] += 1

    @staticmethod
    def _delete_product(record: Record, out: Sorted) -> None:
        try:
            product_id = (record.key or b"").decode()
        except UnicodeDecodeError:
            product_id = ""
        if not product_id or "\0" in product_id:
            raise BadRecord("key: a record without a value deletes a product; send its id as the key", field="key")
        out.products[product_id] = None
        out.pending.delete_product(product_id)

    def _add_search_event(self, record: Record, source: int, known: Known, out: Sorted) -> None:
        message = parse_search_event(record.value)
        if isinstance(message, UbiQuery):
            self._add_query(message, record, source, out)
        elif isinstance(message, Pair):
            row = _waiting_row(record, None, message.query, message.product_id, message.timestamp)
            self.join(row | {"action": message.action, "position": message.position}, record, source, known, out)
        else:
            self._add_event(message, record, source, known, out)

    def _add_query(self, message: UbiQuery, record: Record, source: int, out: Sorted) -> None:
        self._check_query(message.user_query)
        row = {
            "query_id": message.query_id,
            "user_query": message.user_query,
            "client_id": message.client_id,
            "application": message.application,
            "occurred_at": message.timestamp or record.happened_at,
        }
        out.queries.append(row)
        out.pending.queries[message.query_id] = message.user_query
        out.counts[source]["queries"] += 1

    def _check_query(self, query: str) -> None:
        if len(query) > self._events.max_query_characters:
            raise BadRecord(
                f"user_query: has {len(query)} characters; send at most {self._events.max_query_characters}, "
                "or raise LABELSTREAM_EVENTS_MAX_QUERY_CHARACTERS",
                field="user_query",
            )

    def _add_event(self, message: UbiEvent, record: Record, source: int, known: Known, out: Sorted) -> None:
        action = self._events.actions.get(message.action_name)
        if action is None:
            out.ignore(source, message.action_name[:64])
            return
        if message.object_id is None:
            field_name = "event_attributes.object.object_id"
            raise BadRecord(f"{field_name}: missing; name the product of this {message.action_name}", field=field_name)
        if message.query_id is None and message.user_query is None:
            raise BadRecord("query_id: missing; send the id of the query or user_query", field="query_id")
        row = _waiting_row(record, message.query_id, message.user_query, message.object_id, message.timestamp)
        attributes = message.event_attributes
        object_id_field = attributes.object.object_id_field if attributes and attributes.object else None
        row |= {"object_id_field": object_id_field, "action": action, "position": message.position}
        self.join(row, record, source, known, out)

    def join(self, row: dict[str, Any], record: Record, source: int, known: Known, out: Sorted) -> None:
        """Join an event (as a row of ``waiting``) with its query and its product, or let it wait for them."""
        query, product = row["user_query"], known.product(row["object_id"])
        if query is None:
            query = known.query(row["query_id"])
        if query is None or product is None:
            out.waiting.append(row | {"user_query": query})
            out.counts[source]["waiting"] += 1
            return
        self._check_query(query)
        normalised = normalise_query(query)
        if not normalised:
            out.ignore(source, EMPTY_QUERY)
            return
        key = label_key(normalised, product.hash, self._judge)
        observation = Observation(
            source, record, key, normalised, product, row["action"], row["position"], row["occurred_at"]
        )
        out.observations.append(observation)
        if not known.has_label(key):
            out.to_judge[key] = observation
            out.pending.labels.add(key)


def _waiting_row(
    record: Record, query_id: str | None, query: str | None, object_id: str, occurred_at: datetime | None
) -> dict[str, Any]:
    return as_it_came(record) | {
        "query_id": query_id,
        "user_query": query,
        "object_id": object_id,
        "object_id_field": None,
        "occurred_at": occurred_at or record.happened_at,
    }
