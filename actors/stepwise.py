"""Work in steps: one thread does the most urgent job first, and looks again after every step."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from labelstream.actors.step_timer import StepTimer
from labelstream.schemas.errors import ModelUnavailable

Answer = TypeVar("Answer")
Steps = Generator[None, None, Answer]


def all_steps(steps: Steps[Answer], before: Callable[[], object] = lambda: None) -> Answer:
    """Go through to the end.

    Args:
        steps: Yields before every step, and returns the answer.
        before: Called before every step.
    """
    while True:
        try:
            next(steps)
            before()
        except StopIteration as end:
            answer: Answer = end.value
            return answer


@dataclass(order=True)
class _Job(Generic[Answer]):
    priority: int
    number: int
    steps: Steps[Answer] = field(compare=False)
    future: Future[Answer] = field(compare=False, default_factory=Future)

    def go_on(self) -> bool:
        """Do one step; False once there is nothing left to do."""
        if self.future.cancelled():
            self.steps.close()
            return False
        try:
            next(self.steps)
        except StopIteration as end:
            if self._is_wanted():
                self.future.set_result(end.value)
        except Exception as error:  # a job that fails must not stop the others
            self.fail(error)
        else:
            return True
        return False

    def fail(self, error: Exception) -> None:
        if self._is_wanted():
            self.future.set_exception(error)

    def _is_wanted(self) -> bool:
        """Whether its owner has not cancelled it; from here on that cannot be done any more."""
        return self.future.set_running_or_notify_cancel()


class StepwiseThread:
    """Does jobs in one thread, one step at a time.

    A job never waits for a less urgent one to end, only for its step under way. Jobs of one priority go in the order in
    which they came.

    Args:
        name: Of the thread.
        clock: Monotonic seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._timer = StepTimer(clock)
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._jobs: list[_Job[Any]] = []  # heap: most urgent job first
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def step_s(self) -> float:
        """Seconds that the step under way has taken so far; 0 between steps."""
        return self._timer.seconds

    def submit(self, steps: Steps[Answer], *, priority: int = 0) -> Future[Answer]:
        """Have a job done; any thread may call.

        Args:
            steps: Yields after every step, and returns the answer. Runs in the thread.
            priority: Lower goes first.

        Returns:
            The answer, or what the job raised; ``ModelUnavailable`` when this is closed. Cancelling it spares the steps
            that have not begun.
        """
        job = _Job(priority, next(self._numbers), steps)
        with self._changed:
            if self._closed:
                job.fail(_closed())
            else:
                heapq.heappush(self._jobs, job)
                self._changed.notify()
        return job.future

    def close(self) -> None:
        """Stop after the step under way; jobs that are not done by then fail with ``ModelUnavailable``."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            with self._timer.step():
                goes_on = job.go_on()
            if goes_on:
                with self._changed:
                    heapq.heappush(self._jobs, job)
        for job in self._jobs:
            job.fail(_closed())

    def _next(self) -> _Job[Any] | None:
        """Take the most urgent job out; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._jobs)
            return None if self._closed else heapq.heappop(self._jobs)


def _closed() -> ModelUnavailable:
    return ModelUnavailable("the model was closed; send the pairs again")
