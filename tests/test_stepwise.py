from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from patience import TIMEOUT

from labelstream.actors.stepwise import Steps, StepwiseThread, all_steps
from labelstream.schemas.errors import ModelUnavailable


class Work:
    """Jobs that note each of their steps; the first step of a gated one waits."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.started, self.gate = threading.Event(), threading.Event()

    def job(self, name: str, steps: int, *, gated: bool = False) -> Steps[str]:
        for _ in range(steps):
            self.done.append(name)
            if gated and not self.started.is_set():
                self.started.set()
                assert self.gate.wait(TIMEOUT)
            yield
        return name


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def thread(work: Work) -> Iterator[StepwiseThread]:
    thread = StepwiseThread("test")
    yield thread
    work.gate.set()
    thread.close()


def failing() -> Steps[str]:
    yield
    raise ValueError("a bad job")


def test_an_urgent_job_goes_before_the_next_step_of_a_patient_one(work: Work, thread: StepwiseThread):
    patient = thread.submit(work.job("patient", 4, gated=True))
    assert work.started.wait(TIMEOUT)
    urgent = thread.submit(work.job("urgent", 2), priority=-1)
    work.gate.set()
    assert (urgent.result(TIMEOUT), patient.result(TIMEOUT)) == ("urgent", "patient")
    assert work.done == ["patient", "urgent", "urgent", "patient", "patient", "patient"]


def test_a_step_that_does_not_end_is_seen(work: Work):
    now = [5.0]
    thread = StepwiseThread("test", clock=lambda: now[0])
    assert thread.step_s == 0
    answer = thread.submit(work.job("long", 1, gated=True))
    assert work.started.wait(TIMEOUT)
    now[0] = 47
    assert thread.step_s == 42
    work.gate.set()
    answer.result(TIMEOUT)
    thread.close()
    assert thread.step_s == 0


def test_jobs_of_one_priority_go_in_the_order_they_came(work: Work, thread: StepwiseThread):
    futures = [thread.submit(work.job(name, 2, gated=True)) for name in "abc"]
    work.gate.set()
    assert [future.result(TIMEOUT) for future in futures] == ["a", "b", "c"]
    assert "".join(work.done) == "aabbcc"


def test_a_cancelled_job_does_no_more_work(work: Work, thread: StepwiseThread):
    begun = thread.submit(work.job("begun", 100, gated=True))
    assert work.started.wait(TIMEOUT)
    waiting = thread.submit(work.job("waiting", 100))
    assert begun.cancel()
    assert waiting.cancel()
    work.gate.set()
    assert thread.submit(work.job("next", 1)).result(TIMEOUT) == "next"
    assert work.done == ["begun", "next"]


def test_a_job_that_fails_fails_alone(work: Work, thread: StepwiseThread):
    bad, good = thread.submit(failing()), thread.submit(work.job("good", 2))
    with pytest.raises(ValueError, match="a bad job"):
        bad.result(TIMEOUT)
    assert good.result(TIMEOUT) == "good"


def test_close_fails_what_is_not_done_and_what_comes_after(work: Work, thread: StepwiseThread):
    begun = thread.submit(work.job("begun", 1000, gated=True))
    assert work.started.wait(TIMEOUT)
    closing = threading.Thread(target=thread.close)
    closing.start()
    with thread._changed:
        assert thread._changed.wait_for(lambda: thread._closed, TIMEOUT)
    work.gate.set()
    closing.join(TIMEOUT)
    for future in (begun, thread.submit(work.job("late", 1))):
        with pytest.raises(ModelUnavailable, match="closed"):
            future.result(TIMEOUT)


def test_all_steps_at_once(work: Work):
    assert all_steps(work.job("alone", 3)) == "alone"
    assert work.done == ["alone"] * 3
