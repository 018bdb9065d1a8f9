from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lakes import EVENTS, record

from labelstream.streaming.buffer import RecordBuffer
from labelstream.streaming.records import Record

P0, P1 = (EVENTS, 0), (EVENTS, 1)


class FakeClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def records(*offsets: int) -> list[Record]:
    return [record(offset, {}) for offset in offsets]


def buffer_at(start: int, limit: int = 3, clock: FakeClock | None = None) -> RecordBuffer:
    buffer = RecordBuffer(limit, 5.0, clock or FakeClock())
    buffer.begin(P0, start)
    return buffer


def test_it_is_ripe_when_full():
    buffer = buffer_at(0)
    buffer.add(P0, records(0, 1))
    assert [buffer.is_ripe, buffer.is_full, buffer.is_empty] == [False, False, False]
    buffer.add(P0, records(2))
    assert buffer.is_ripe
    assert buffer.is_full


def test_it_is_ripe_when_the_oldest_record_has_waited():
    clock = FakeClock()
    buffer = buffer_at(0, clock=clock)
    clock.now += 100
    assert not buffer.is_ripe
    buffer.add(P0, records(0))
    clock.now += 4
    buffer.add(P0, records(1))
    assert not buffer.is_ripe
    clock.now += 1
    assert buffer.is_ripe


def test_ranges_begin_at_the_position_and_cover_holes():
    buffer = buffer_at(10)
    buffer.add(P0, records(12, 15))
    [taken] = buffer.take()
    assert taken.offsets == (EVENTS, 0, 10, 16)
    buffer.add(P0, records(20))
    assert buffer.take()[0].offsets == (EVENTS, 0, 16, 21)
    assert buffer.positions == {P0: 21}


def test_a_stale_fetch_is_left_out():
    buffer = buffer_at(10)
    buffer.add(P0, records(8, 9, 10))
    assert [r.offset for r in buffer.take()[0].records] == [10]


def test_what_was_fetched_twice_is_taken_once():
    buffer = buffer_at(10)
    buffer.add(P0, records(10, 11))
    buffer.add(P0, records(10, 11, 12))
    assert [r.offset for r in buffer.take()[0].records] == [10, 11, 12]


def test_a_batch_is_never_larger_than_full_and_the_rest_stays():
    buffer = buffer_at(0, limit=3)
    buffer.begin(P1, 0)
    buffer.add(P0, records(0, 1))
    buffer.add(P1, records(0, 1, 2))
    assert [taken.offsets for taken in buffer.take()] == [(EVENTS, 0, 0, 2), (EVENTS, 1, 0, 1)]
    assert [taken.offsets for taken in buffer.take()] == [(EVENTS, 1, 1, 3)]
    assert buffer.is_empty


def test_a_partition_that_has_not_begun_is_left_out():
    buffer = buffer_at(0)
    buffer.add(P1, records(0))
    assert buffer.is_empty
    assert buffer.take() == []


def test_a_partition_that_begins_again_forgets_what_it_had():
    buffer = buffer_at(0)
    buffer.add(P0, records(0, 1))
    buffer.begin(P0, 1)
    assert buffer.is_empty
    buffer.add(P0, records(1))
    assert buffer.take()[0].offsets == (EVENTS, 0, 1, 2)


def test_a_forgotten_partition_leaves_the_others():
    buffer = buffer_at(0)
    buffer.begin(P1, 5)
    buffer.add(P0, records(0, 1))
    buffer.add(P1, records(5))
    buffer.forget([P0, ("other", 7)])
    assert (buffer.positions, buffer.is_full) == ({P1: 5}, False)
    assert [taken.offsets for taken in buffer.take()] == [(EVENTS, 1, 5, 6)]


@given(st.lists(st.tuples(st.sampled_from([P0, P1]), st.integers(1, 4), st.integers(0, 3), st.booleans())))
def test_ranges_tile_whatever_comes(polls: list[tuple[Any, int, int, bool]]):
    buffer, ends, seen = RecordBuffer(5, 1.0), {P0: 0, P1: 0}, {P0: [], P1: []}
    reached = dict(ends)
    for partition in ends:
        buffer.begin(partition, 0)
    for partition, number, hole, take in polls:
        offsets = [reached[partition] + hole + i for i in range(number)]
        reached[partition] = offsets[-1] + 1
        seen[partition] += offsets
        buffer.add(partition, records(*offsets))
        for taken in buffer.take() if take else ():
            place = taken.offsets[:2]
            assert taken.offsets.first == ends[place]
            ends[place] = taken.offsets.next
            size = len(taken.records)
            assert [record.offset for record in taken.records] == seen[place][:size]
            del seen[place][:size]
    assert buffer.positions == ends
