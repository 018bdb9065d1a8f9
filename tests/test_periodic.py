from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from patience import TIMEOUT

from labelstream.streaming import periodic as module
from labelstream.streaming.periodic import Periodic


def test_it_runs_at_once_and_again_and_again_until_it_is_closed():
    runs = threading.Semaphore(0)
    with Periodic("counter", runs.release, 0.001) as periodic:
        assert all(runs.acquire(timeout=TIMEOUT) for _ in range(5))
    assert not periodic._thread.is_alive()


def test_an_error_is_logged_and_the_next_run_comes(caplog: pytest.LogCaptureFixture):
    again, runs = threading.Event(), list[int]()

    def stumble() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ZeroDivisionError("a bug")
        again.set()

    with Periodic("stumbler", stumble, 0.001):
        assert again.wait(TIMEOUT)
    [record] = caplog.records
    assert record.getMessage() == "stumbler failed; it is tried again"
    assert record.exc_info is not None


def test_the_function_can_say_that_it_is_over():
    runs: list[int] = []

    def once() -> None:
        runs.append(1)
        periodic.end()

    periodic = Periodic("once", once, 0)
    periodic.start()
    periodic._thread.join(TIMEOUT)
    assert (runs, periodic._thread.is_alive()) == ([1], False)
    periodic.close()


def test_it_ends_at_once_in_the_middle_of_any_pause():
    begun, cut_short = threading.Event(), list[bool]()

    def pause() -> None:
        begun.set()
        cut_short.append(periodic.wait(3600))

    periodic = Periodic("patient", pause, 3600)
    with periodic:
        assert begun.wait(TIMEOUT)
    assert cut_short == [True]
    with Periodic("late", begun.clear, 3600, at_once=False):
        pass
    assert begun.is_set()


def test_a_long_run_is_followed_by_a_long_rest(monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    clock = iter([0.0, 2.0, 10.0, 10.5])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    periodic = Periodic("slow", lambda: None, 5.0, rest=9.0)

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 3

    monkeypatch.setattr(periodic, "wait", wait)
    periodic._run()
    assert pauses == [0.0, 18.0, 5.0]


def test_closing_before_the_start_is_no_error():
    Periodic("never", lambda: None, 0).close()
