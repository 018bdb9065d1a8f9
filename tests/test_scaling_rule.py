"""How many Labellers there should be: the rule on its own, and against a simulated backlog."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.actors.scaling_rule import ScalingRule, Work
from labelstream.schemas.scaling_settings import ScalingSettings

SETTINGS = ScalingSettings(replicas=1, max_replicas=4, drain_target_s=60, target_requests=10, scale_down_delay_s=300)
WINDOW_S = 60
STEP_S = 10


@dataclass
class Backlog:
    """Labellers that each take ``rate`` records a second off a queue that gets ``arrivals`` a second."""

    arrivals: float
    rate: float = 100.0
    lag: float = 0.0
    records: float = 0.0
    busy_s: float = 0.0
    at: float = 0.0
    requests: int = 0

    def go_on(self, serving: int) -> Work:
        self.at += STEP_S
        self.lag += self.arrivals * STEP_S
        done = min(self.lag, serving * self.rate * STEP_S)
        self.lag -= done
        self.records += done
        self.busy_s += done / self.rate
        return Work(self.at, int(self.lag), int(self.records), self.busy_s, self.requests)


class Fleet:
    """Follows the rule at once, but that loading takes a while."""

    def __init__(self, settings: ScalingSettings = SETTINGS, load_s: float = 0) -> None:
        self.rule, self.load_s = ScalingRule(settings), load_s
        self.serving, self.loads_until = settings.replicas, 0.0
        self.loading = False

    def look(self, work: Work) -> int:
        """One look, and the step that it asks for: 1, 0 or -1."""
        if self.loading and work.at >= self.loads_until:
            self.serving, self.loading = self.serving + 1, False
        there = self.serving + self.loading
        step = self.rule.wanted(work, self.serving, loading=self.loading) - there
        if step > 0:
            self.loading, self.loads_until = True, work.at + self.load_s
        elif step < 0 and self.loading:
            self.loading = False
        elif step < 0:
            self.serving -= 1
        return step

    def follow(self, backlog: Backlog, seconds: float) -> list[int]:
        """The steps of some time, without those that are none."""
        steps = [self.look(backlog.go_on(self.serving)) for _ in range(int(seconds / STEP_S))]
        return [step for step in steps if step]


def test_a_backlog_brings_more_and_quiet_takes_them_away():
    fleet, backlog = Fleet(load_s=120), Backlog(arrivals=50, lag=100_000)
    assert fleet.follow(backlog, 600) == [1] * 3
    assert fleet.serving == SETTINGS.max_replicas
    assert fleet.follow(backlog, 5000) == [-1] * 3
    assert (fleet.serving, backlog.lag) == (1, 0)


def test_what_is_kept_up_with_changes_nothing():
    assert Fleet().follow(Backlog(arrivals=90, lag=500), 10_000) == []


def test_one_that_the_stream_leaves_alone_does_not_make_the_others_look_idle():
    """Of two, the stream asks one, which always has work: half of the time of both."""
    kept_free = SETTINGS.model_copy(update={"replicas": 2, "reserved": 1})
    rule, backlog = ScalingRule(kept_free), Backlog(arrivals=500)
    assert [rule.wanted(backlog.go_on(1), 2) for _ in range(8)] == [2] * 6 + [3] * 2


def test_a_lag_that_the_labellers_do_not_cause_brings_none():
    """The lake is slow: records wait, and so do the Labellers."""
    rule = ScalingRule(SETTINGS)
    for n in range(100):
        assert rule.wanted(Work(n * 10.0, 100_000 + n, n, busy_s=n * 1.0, requests=0), 1) == 1


def test_a_model_that_finishes_nothing_in_the_window_is_too_slow():
    rule = ScalingRule(SETTINGS)
    assert [rule.wanted(Work(n * 30.0, 1000, 7, n * 30.0, 0), 1) for n in range(3)] == [1, 1, 2]


@pytest.mark.parametrize(("requests", "expected"), [(10, []), (11, [1]), (21, [1, 1])])
def test_requests_that_keep_coming_bring_more(requests: int, expected: list[int]):
    assert Fleet().follow(Backlog(arrivals=0, requests=requests), 250) == expected


def test_a_moment_of_many_requests_brings_none():
    rule = ScalingRule(SETTINGS)
    for n in range(60):
        assert rule.wanted(Work(n * 5.0, 0, 0, 0.0, 40 if n % 6 == 5 else 0), 1) == 1


def test_nobody_comes_while_one_loads():
    fleet = Fleet(load_s=10_000)
    assert fleet.follow(Backlog(arrivals=500, lag=100_000), 9_000) == [1]


def test_one_that_still_loads_when_it_is_quiet_again_goes():
    fleet, backlog = Fleet(load_s=10_000), Backlog(arrivals=0, lag=20_000)
    assert fleet.follow(backlog, 1000) == [1, -1]
    assert not fleet.loading


def test_without_a_maximum_nothing_changes():
    fleet = Fleet(ScalingSettings(replicas=2))
    assert fleet.follow(Backlog(arrivals=5000, lag=1e6, requests=500), 5000) == []
    assert fleet.follow(Backlog(arrivals=0, at=5000), 5000) == []


def test_what_is_not_known_begins_the_window_again():
    rule, backlog = ScalingRule(SETTINGS), Backlog(arrivals=500)
    for n in range(100):
        work = backlog.go_on(1)
        assert rule.wanted(None if n % 6 == 0 else work, 1) == 1


def test_a_labeller_that_was_restarted_begins_the_window_again():
    rule, backlog = ScalingRule(SETTINGS), Backlog(arrivals=500)
    for n in range(100):
        backlog.busy_s *= n % 6 != 0
        assert rule.wanted(backlog.go_on(1), 1) == 1


settings = st.builds(
    ScalingSettings,
    replicas=st.integers(1, 3),
    max_replicas=st.integers(3, 8),
    drain_target_s=st.floats(1, 1000),
    target_requests=st.floats(1, 20),
    scale_down_delay_s=st.floats(0, 1000),
)


@given(settings, st.floats(0, 1200), st.floats(0, 1e6), st.integers(0, 200), st.floats(0, 500))
def test_under_an_even_load_it_never_comes_back_for_more(
    settings: ScalingSettings, arrivals: float, lag: float, requests: int, load_s: float
):
    fleet, backlog = Fleet(settings, load_s), Backlog(arrivals, lag=lag, requests=requests)
    steps = fleet.follow(backlog, 30_000)
    assert steps == sorted(steps, reverse=True)
    assert settings.replicas <= fleet.serving <= settings.most


def histories() -> st.SearchStrategy[list[tuple[float, Work | None]]]:
    """Seconds since the look before, and anything at all that may be seen, or nothing."""
    counts = st.integers(0, 10**6)
    work = st.builds(Work, st.just(0.0), counts, counts, st.floats(0, 1e6), st.integers(0, 100))
    return st.lists(st.tuples(st.floats(0.1, 400), st.none() | work), max_size=60)


def played(history: list[tuple[float, Work | None]]) -> Iterator[tuple[float, Work | None]]:
    now = records = 0.0
    for seconds, work in history:
        now += seconds
        records += work.records if work else 0
        yield now, work and replace(work, at=now, records=int(records))


@given(settings, histories(), st.floats(0, 1000))
def test_whatever_is_seen_the_steps_are_small_and_rare(
    settings: ScalingSettings, history: list[tuple[float, Work | None]], load_s: float
):
    fleet, changed_at, window_s = Fleet(settings, load_s), 0.0, min(WINDOW_S, settings.drain_target_s)
    for now, work in played(history):
        if work is None:
            there = fleet.serving + fleet.loading
            assert fleet.rule.wanted(None, fleet.serving, loading=fleet.loading) == there
            changed_at = now
            continue
        loaded = fleet.loading and now >= fleet.loads_until
        was_loading = fleet.loading and not loaded
        changed_at = now if loaded else changed_at
        step = fleet.look(work)
        assert abs(step) <= 1
        assert settings.replicas <= fleet.serving + fleet.loading <= settings.most
        assert not (step > 0 and was_loading)
        if step:
            assert now - changed_at >= (window_s if step > 0 else max(window_s, settings.scale_down_delay_s)) - 1e-6
        changed_at = now if step < 0 and not was_loading else changed_at
