"""What arrives on the search-events topic: UBI queries, UBI events and plain pairs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

from labelstream.schemas.complaint import what_is_wrong
from labelstream.schemas.errors import BadRecord
from labelstream.schemas.product import Identifier, Moment, Product, Text

Engagement = Literal["impression", "click", "add_to_cart", "purchase"]

EARLIEST = datetime(1995, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)


def _plausible(moment: datetime) -> datetime:
    if not EARLIEST <= moment < LATEST:
        raise ValueError(f"lies outside {EARLIEST.year} to {LATEST.year}; send ISO 8601 or epoch milliseconds")
    return moment


Timestamp = Annotated[Moment, AfterValidator(_plausible)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class UbiQuery(_Message):
    """A UBI query document: what was typed, under which id."""

    query_id: Identifier
    user_query: Text
    client_id: Text | None = None
    application: Text | None = None
    timestamp: Timestamp | None = None


class EventObject(_Message):
    """What a UBI event is about."""

    object_id: Identifier | None = None
    object_id_field: Text | None = None


class EventPosition(_Message):
    """Where on the page it was."""

    ordinal: int | None = Field(default=None, ge=0, le=1_000_000)


class EventAttributes(_Message):
    """The part of a UBI event that names the product and its rank."""

    object: EventObject | None = None
    position: EventPosition | None = None


class UbiEvent(_Message):
    """A UBI event document: what somebody did after a query."""

    action_name: Text = Field(min_length=1, max_length=200)
    query_id: Identifier | None = None
    user_query: Text | None = None
    client_id: Text | None = None
    timestamp: Timestamp | None = None
    event_attributes: EventAttributes | None = None

    @property
    def object_id(self) -> str | None:
        """The id of the product that the event is about, if it is about one."""
        attributes = self.event_attributes
        return attributes.object.object_id if attributes and attributes.object else None

    @property
    def position(self) -> int | None:
        """Rank on the page, as the log counts it (from 0 or from 1)."""
        attributes = self.event_attributes
        return attributes.position.ordinal if attributes and attributes.position else None


class Pair(_Message):
    """A plain pair to be judged, with no engagement unless an action is named."""

    query: Text
    product_id: Identifier
    action: Engagement | None = None
    position: int | None = Field(default=None, ge=0, le=1_000_000)
    timestamp: Timestamp | None = None


SearchEvent = UbiQuery | UbiEvent | Pair


def _kind(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    if "action_name" in value:
        return "event"
    if "product_id" in value:
        return "pair"
    return "query" if "query_id" in value or "user_query" in value else None


_SEARCH_EVENT: TypeAdapter[SearchEvent] = TypeAdapter(
    Annotated[
        Annotated[UbiQuery, Tag("query")] | Annotated[UbiEvent, Tag("event")] | Annotated[Pair, Tag("pair")],
        Discriminator(
            _kind,
            custom_error_type="unknown_message",
            custom_error_message="send a UBI query (query_id, user_query), a UBI event (action_name) or a pair "
            "(query, product_id)",
        ),
    ]
)
T = TypeVar("T")

_PRODUCT: TypeAdapter[Product] = TypeAdapter(Product)


def parse_search_event(value: bytes | None) -> SearchEvent:
    """Read one value of the search-events topic.

    Raises:
        BadRecord: Names the field and what is expected there.
    """
    return _parse(_SEARCH_EVENT, value)


def parse_product(value: bytes | None) -> Product:
    """Read one value of the products topic (tombstones are the caller's business).

    Raises:
        BadRecord: Names the field and what is expected there.
    """
    return _parse(_PRODUCT, value)


def _parse(adapter: TypeAdapter[T], value: bytes | None) -> T:
    if not value:
        raise BadRecord("the record is empty; send one JSON object")
    try:
        return adapter.validate_json(value)
    except ValidationError as error:
        raise bad_record(error) from None


def bad_record(error: ValidationError) -> BadRecord:
    """The first complaint of pydantic as one line that names the field, without the offending input."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    tagged = first["loc"][:1] in {("query",), ("event",), ("pair",)}
    field = ".".join(str(part) for part in first["loc"][tagged:]).replace("\0", " ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return BadRecord(f"{field or 'record'}: {what_is_wrong(first)}{more}", field=field)
