from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import pytest
from test_buffer import FakeClock

from labelstream.schemas.errors import LakeBusy, ModelUnavailable, StaleBatch
from labelstream.streaming.retry import FIRST_WAIT_S, LONGEST_WAIT_S, Patience, RetriedCall


class ScriptedCall:
    """Gives the answers of a list, one a call: a value, an error, None for silence, or a function to raise from."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = 0

    def __call__(self) -> Future[Any]:
        self.calls += 1
        answer = self.answers.pop(0)
        if callable(answer):
            answer()
        future: Future[Any] = Future()
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future


def refuse() -> None:
    raise LakeBusy("no connection")


def retried(clock: FakeClock, call: ScriptedCall, on_hang: Callable[[], None] = lambda: None) -> RetriedCall[Any]:
    return RetriedCall(call, Patience("the lake", 10.0, 60.0, on_hang), clock)


def poll_until_answer(retry: RetriedCall[Any], clock: FakeClock, step: float = 0.1) -> Any:
    while not retry.poll():
        clock.now += step
    return retry.result()


def test_an_answer_is_passed_on():
    call = ScriptedCall("yes")
    assert poll_until_answer(retried(FakeClock(), call), FakeClock()) == "yes"
    assert call.calls == 1


@pytest.mark.parametrize("trouble", [LakeBusy("locked"), refuse], ids=["answer", "call"])
def test_after_a_transient_error_the_call_is_made_again(trouble: Any):
    clock, call = FakeClock(), ScriptedCall(trouble, trouble, "yes")
    assert poll_until_answer(retried(clock, call), clock) == "yes"
    assert call.calls == 3


def test_waits_grow_up_to_a_limit():
    clock, call = FakeClock(), ScriptedCall(*[LakeBusy("locked")] * 10, "yes")
    retry, tries = retried(clock, call), []
    while not retry.poll():
        clock.now += 0.01
        if len(tries) < call.calls:
            tries.append(clock.now)
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits[0] == pytest.approx(FIRST_WAIT_S, abs=0.05)
    assert waits[1] == pytest.approx(2 * FIRST_WAIT_S, abs=0.05)
    assert max(waits) == pytest.approx(LONGEST_WAIT_S, abs=0.05)


def test_a_transient_error_that_lasts_is_passed_on():
    clock, call = FakeClock(), ScriptedCall(*[LakeBusy("locked")] * 100)
    started = clock.now
    with pytest.raises(LakeBusy):
        poll_until_answer(retried(clock, call), clock)
    assert 60 <= clock.now - started < 60 + LONGEST_WAIT_S + 1


@pytest.mark.parametrize("error", [StaleBatch("stale"), RuntimeError("a bug")], ids=lambda e: type(e).__name__)
def test_other_errors_are_passed_on_at_once(error: Exception):
    clock, call = FakeClock(), ScriptedCall(error)
    with pytest.raises(type(error)):
        poll_until_answer(retried(clock, call), clock)
    assert call.calls == 1


def test_a_silent_call_counts_as_hanging():
    hangs: list[float] = []
    clock, call = FakeClock(), ScriptedCall(None, "yes")
    started = clock.now
    retry = retried(clock, call, lambda: hangs.append(clock.now))
    assert poll_until_answer(retry, clock) == "yes"
    assert hangs == [pytest.approx(started + 10, abs=0.2)]


def test_one_that_hangs_for_ever_is_given_up():
    clock, call = FakeClock(), ScriptedCall(*[None] * 100)
    with pytest.raises(ModelUnavailable, match="the lake has not answered for 10 s"):
        poll_until_answer(retried(clock, call), clock)
