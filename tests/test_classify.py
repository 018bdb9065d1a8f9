from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lakes import MOMENT, PRODUCT_TOPIC, Bench, click, pair, product_record, query, record, tombstone

from labelstream.schemas.settings import EventSettings
from labelstream.streaming.classify import EMPTY_QUERY, MAX_ACTIONS_COUNTED, OTHER_ACTIONS, Sorted
from labelstream.streaming.records import Record, moment_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    limits = EventSettings(max_record_bytes=2000, max_query_characters=20)
    with Bench(tmp_path, events=limits) as bench:
        yield bench


def sort(bench: Bench, *records: Record) -> Sorted:
    return bench.prepare(*records).sorted


def event(offset: int, **fields: Any) -> Record:
    return record(offset, {"action_name": "click", "query_id": "q"} | fields)


def about(object_id: Any) -> dict[str, Any]:
    return {"event_attributes": {"object": {"object_id": object_id}}}


def test_each_record_has_one_outcome(bench: Bench):
    sofa, ours = product_record(0, "p"), query(0, "q", "Sofa")
    out = sort(
        bench, sofa, ours, click(1, "q", "p"), click(2, "q", "new"), click(3, "q", "p", "scroll"), record(4, b"x")
    )
    products, events = out.counts
    assert products == {"products": 1}
    assert events == {"queries": 1, "waiting": 1, "ignored": 1, "dead_lettered": 1}
    assert [seen.query for seen in out.observations] == ["sofa"]
    assert out.ignored[1] == {"scroll": 1}


def test_an_observation_carries_what_happened(bench: Bench):
    [seen] = sort(bench, product_record(0, "p"), query(0, "q", " SOFA "), click(1, "q", "p")).observations
    assert (seen.query, seen.product.product_id, seen.action, seen.position) == ("sofa", "p", "click", 2)
    assert seen.occurred_at == MOMENT


def test_an_event_may_bring_its_own_query(bench: Bench):
    [seen] = sort(bench, product_record(0, "p"), event(0, query_id=None, user_query="bed", **about("p"))).observations
    assert seen.query == "bed"


def test_an_alternative_id_finds_the_product(bench: Bench):
    [seen] = sort(bench, product_record(0, "p", alternative_ids=["ean"]), pair(0, "a", "ean")).observations
    assert seen.product.product_id == "p"


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (event(0), "event_attributes.object.object_id"),
        (event(0, query_id=None, **about("p")), "query_id"),
        (query(0, "q", "x" * 21), "user_query"),
        (pair(0, "x" * 21, "p"), "user_query"),
        (record(0, b"{" + b" " * 2000), ""),
        (record(0, None), ""),
        (record(0, None, topic=PRODUCT_TOPIC), "key"),
        (record(0, None, topic=PRODUCT_TOPIC, key=b"\xff"), "key"),
        (record(0, b"", topic=PRODUCT_TOPIC, key=b"p"), ""),
        (product_record(0, "p", title=""), "title"),
    ],
)
def test_a_bad_record_goes_to_the_dead_letters_as_it_came(bench: Bench, bad: Record, field: str):
    out = sort(bench, product_record(7, "p"), bad)
    [letter] = out.dead_letters
    kept = {name: letter[name] for name in ("topic", "partition", "offset", "key", "value", "timestamp")}
    assert kept == {name: getattr(bad, name) for name in kept}
    assert letter["headers"] == [{"name": "h", "value": b"\xff"}]
    assert (letter["stage"], letter["error"], letter["field"]) == ("read", "BadRecord", field)


@pytest.mark.parametrize("text", ["", "  \n", "\u00a0"])
def test_an_empty_query_is_counted_and_ignored(bench: Bench, text: str):
    out = sort(bench, product_record(0, "p"), query(0, "q", text), click(1, "q", "p"))
    assert out.ignored[1] == {EMPTY_QUERY: 1}
    assert not out.observations


def test_a_flood_of_different_actions_takes_bounded_room(bench: Bench):
    out = sort(bench, *(event(i, action_name=f"{'a' * 100}{i}") for i in range(10)))
    assert list(out.ignored[0]) == ["a" * 64]
    out = sort(bench, *(event(i, action_name=f"action {i}") for i in range(300)))
    assert len(out.ignored[0]) == MAX_ACTIONS_COUNTED + 1
    assert out.ignored[0][OTHER_ACTIONS] == 300 - MAX_ACTIONS_COUNTED


def test_odd_actions_can_be_committed(bench: Bench):
    names = ["a\x00b", "it's", '"', "\\", "😀\n", "[{,}]", "NULL", "=", "\u202e"]
    bench.take(*(event(i, action_name=name) for i, name in enumerate(names)))
    [(counted,)] = bench.lake.query("SELECT ignored_by_action FROM consumed")
    assert counted == dict.fromkeys([name.replace("\0", " ") for name in names], 1)


def test_the_last_word_on_a_product_counts(bench: Bench):
    out = sort(bench, product_record(0, "p", title="old"), product_record(1, "p", title="new"), pair(0, "a", "p"))
    assert out.observations[0].product.text == "Title: new\n"
    out = sort(bench, product_record(0, "p"), tombstone(1, "p"), pair(0, "a", "p"))
    assert out.products == {"p": None}
    assert len(out.waiting) == 1


class TestKnown:
    """What a batch knows: the lake's store, the batches in flight, and itself."""

    def test_an_alternative_id_that_a_product_lost_is_not_found(self, bench: Bench):
        bench.take(product_record(0, "p", alternative_ids=["ean"]))
        changed = bench.prepare(product_record(1, "p"))
        assert bench.prepare(pair(0, "a", "ean"), in_flight=[changed]).sorted.waiting
        assert sort(bench, product_record(1, "p"), pair(0, "a", "ean")).waiting

    def test_an_alternative_id_lost_between_two_batches_in_flight_is_not_found(self, bench: Bench):
        first = bench.prepare(product_record(0, "p", alternative_ids=["ean"]))
        second = bench.prepare(product_record(1, "p"), in_flight=[first])
        assert bench.prepare(pair(0, "a", "ean"), in_flight=[first]).sorted.observations
        assert bench.prepare(pair(0, "a", "ean"), in_flight=[first, second]).sorted.waiting

    def test_an_own_id_comes_before_a_newer_alternative_id(self, bench: Bench):
        bench.take(product_record(0, "p"), product_record(1, "q"))
        changed = bench.prepare(product_record(2, "q", alternative_ids=["p"]))
        [seen] = bench.prepare(pair(0, "a", "p"), in_flight=[changed]).sorted.observations
        assert seen.product.product_id == "p"

    def test_a_deleted_product_is_not_found(self, bench: Bench):
        bench.take(product_record(0, "p"))
        deleted = bench.prepare(tombstone(1, "p"))
        assert bench.prepare(pair(0, "a", "p"), in_flight=[deleted]).sorted.waiting

    def test_a_label_on_its_way_is_not_asked_for_again(self, bench: Bench):
        first = bench.prepare(product_record(0, "p"), pair(0, "a", "p"))
        assert len(first.pairs) == 1
        assert bench.prepare(pair(1, " A ", "p"), in_flight=[first]).pairs == []


@pytest.mark.parametrize(
    ("milliseconds", "year"),
    [(None, None), (-1, None), (0, 1970), (1717527761998, 2024), (2**62, None), (10**15, None)],
)
def test_a_kafka_timestamp_is_a_moment_or_nothing(milliseconds: int | None, year: int | None):
    moment = moment_of(milliseconds)
    assert (moment.year if moment else None) == year
