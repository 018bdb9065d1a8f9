from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.messages import Pair, UbiEvent, UbiQuery, parse_search_event

FIELDS = ("query_id", "user_query", "query", "product_id", "action_name", "timestamp", "event_attributes", "position")
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes().map(str),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner),
    max_leaves=8,
)
MOMENT = datetime(2024, 6, 5, 10, 0, tzinfo=UTC)


def read(**fields: object):
    return parse_search_event(json.dumps(fields).encode())


@given(st.binary() | junk.map(lambda value: json.dumps(value).encode()))
def test_junk_is_a_bad_record_and_nothing_worse(value: Any):
    with contextlib.suppress(BadRecord):
        parse_search_event(value)


@given(st.dictionaries(st.sampled_from(FIELDS), junk))
def test_junk_in_known_fields_is_a_bad_record_and_nothing_worse(value: Any):
    with contextlib.suppress(BadRecord):
        parse_search_event(json.dumps(value).encode())


def test_each_kind_is_recognised():
    assert isinstance(read(query_id="q", user_query="sofa"), UbiQuery)
    assert isinstance(read(action_name="click", query_id="q"), UbiEvent)
    assert isinstance(read(query="sofa", product_id=7), Pair)


@pytest.mark.parametrize(
    "timestamp",
    [
        "2024-06-05T10:00:00Z",
        "2024-06-05T12:00:00+02:00",
        "2024-06-05 10:00:00",
        1717581600,
        1717581600000,
        "1717581600",
    ],
)
def test_timestamps_are_iso_or_epoch_seconds_or_milliseconds(timestamp: object):
    message = read(query="sofa", product_id="p", timestamp=timestamp)
    assert message.timestamp == MOMENT
    assert message.timestamp.tzinfo == UTC


@pytest.mark.parametrize(
    "timestamp",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1994-12-31", "2100-01-01", 0, 4e12 * 10, -1, "soon"],
)
def test_an_implausible_timestamp_is_named(timestamp: object):
    with pytest.raises(BadRecord, match="timestamp") as caught:
        read(query="sofa", product_id="p", timestamp=timestamp)
    assert caught.value.field == "timestamp"


def test_a_ubi_event_as_it_comes():
    attributes = {
        "object": {"object_id": 42, "object_id_field": "ean", "extra": {"deep": [1]}},
        "position": {"ordinal": 3},
    }
    event = read(action_name="no such action", query_id="q", event_attributes=attributes, new_field="kept")
    assert (event.object_id, event.position, event.new_field) == ("42", 3, "kept")


def test_an_event_without_object_is_read_all_the_same():
    event = read(action_name="brand_filter", query_id="q", event_attributes={"object": None})
    assert (event.object_id, event.position) == (None, None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"query_id": "q"}, "user_query"),
        ({"query_id": "", "user_query": "a"}, "query_id"),
        ({"query_id": "q" * 257, "user_query": "a"}, "query_id"),
        ({"query_id": ["q"], "user_query": "a"}, "query_id"),
        ({"query_id": "q", "user_query": {"a": 1}}, "user_query"),
        ({"query": "a", "product_id": None}, "product_id"),
        ({"query": "a", "product_id": "p", "action": "stare"}, "action"),
        ({"query": "a", "product_id": "p", "position": -1}, "position"),
        ({"query": "a", "product_id": "p", "position": 10**30}, "position"),
        ({"query": float("nan"), "product_id": "p"}, "query"),
        ({"query": "a", "product_id": float("inf")}, "product_id"),
        ({"action_name": ""}, "action_name"),
        ({"action_name": "click", "event_attributes": []}, "event_attributes"),
        ({"action_name": "c", "event_attributes": {"position": {"ordinal": "x"}}}, "event_attributes.position.ordinal"),
    ],
)
def test_the_error_names_the_field(fields: dict[str, Any], field: str):
    with pytest.raises(BadRecord) as caught:
        read(**fields)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_the_error_does_not_repeat_what_was_sent():
    with pytest.raises(BadRecord) as caught:
        read(query={"card": "4111 1111"}, product_id="p")
    assert "4111" not in str(caught.value)


@pytest.mark.parametrize(
    "value", [None, b"", b"null", b"[]", b"7", b"{}", b'{"a":1}', b"\xff", b'{"query":"a"', b"{} {}"]
)
def test_what_is_no_message_is_a_bad_record(value: Any):
    with pytest.raises(BadRecord):
        parse_search_event(value)


@pytest.mark.parametrize("value", [b"[" * 10_000, b'{"query":' * 10_000 + b"1" + b"}" * 10_000, b'{"x":' * 10_000])
def test_ten_thousand_levels_of_nesting_are_a_bad_record(value: Any):
    with pytest.raises(BadRecord, match="recursion"):
        parse_search_event(value)


def test_the_last_of_duplicated_keys_counts():
    assert parse_search_event(b'{"query":"a","product_id":"1","query":"b"}').query == "b"


@pytest.mark.parametrize("escape", [rb"\ud800", rb"\udc00", rb"\ud800\ud800"])
def test_a_lone_surrogate_is_a_bad_record(escape: bytes):
    with pytest.raises(BadRecord):
        parse_search_event(b'{"query":"a' + escape + b'","product_id":"1"}')
