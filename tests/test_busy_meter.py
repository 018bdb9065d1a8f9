from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labelstream.actors.busy_meter import BusyMeter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_overlapping_batches_count_their_time_once():
    clock = Clock()
    meter = BusyMeter(clock)
    with meter.batch():
        clock.now = 1
        with meter.batch():
            clock.now = 2
            assert meter.report().busy_s == 2
        clock.now = 3
    clock.now = 10
    with meter.batch():
        clock.now = 11
    assert meter.report().busy_s == 4


def test_failed_batch_ends_its_time_and_counts_no_pairs():
    clock = Clock()
    meter = BusyMeter(clock)
    try:
        with meter.batch():
            clock.now = 1
            raise OSError
    except OSError:
        clock.now = 5
    report = meter.report()
    assert (report.busy_s, report.batches, report.pairs, report.pairs_per_second) == (1, 0, 0, 0)


def test_what_is_under_way_is_told_and_those_for_whom_somebody_waits():
    meter = BusyMeter()
    with meter.batch(), meter.batch(is_request=True), meter.batch(is_request=True):
        assert (meter.report().under_way, meter.report().requests) == (3, 2)
    assert (meter.report().under_way, meter.report().requests) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 10))))
def test_counts_add_up(batches: list[tuple[int, int]]):
    meter = BusyMeter()
    for pairs, errors in batches:
        meter.count(pairs=pairs, errors=errors)
    report = meter.report()
    assert report.batches == len(batches)
    assert report.pairs == sum(pairs for pairs, _ in batches)
    assert report.errors == sum(errors for _, errors in batches)
    assert report.pairs_per_second == 0
