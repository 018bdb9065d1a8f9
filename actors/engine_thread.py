"""Continuous feeding: one thread keeps an engine full with prompts of many batches at once."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from labelstream.actors.priorities import STREAM_PRIORITY, is_request
from labelstream.actors.step_timer import StepTimer
from labelstream.schemas.errors import ModelUnavailable
from labelstream.schemas.scale import Floats

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)

# How long after an urgent batch the next one is expected.
URGENT_FOR_S = 5.0


class Engine(Protocol):
    """What the thread needs of an engine. Made, used and closed in that one thread."""

    def add(self, request: int, token_ids: list[int], priority: int) -> None:
        """Take one prompt in."""
        ...

    def step(self) -> Iterable[tuple[int, Sequence[float]]]:
        """Work once; returns finished requests with the log-probabilities of their labels."""
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...


@dataclass(order=True)
class _Batch(Generic[Answer]):
    priority: int
    number: int
    prompts: list[list[int]] = field(compare=False)
    answers: Floats = field(compare=False)
    finish: Callable[[Floats], Answer] = field(compare=False)
    future: Future[Answer] = field(compare=False, default_factory=Future)
    fed: int = field(compare=False, default=0)
    answered: int = field(compare=False, default=0)

    def settle(self) -> None:
        """Hand out the result. A future that its owner has cancelled stays cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.finish(self.answers))
        except Exception as error:  # an answer that cannot be read must not stop the other batches
            self.future.set_exception(error)

    @property
    def is_patient(self) -> bool:
        return not is_request(self.priority)

    def fail(self, error: Exception) -> None:
        # One that was answered in the last step may still stand among those that wait.
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class EngineThread:
    """Owns an engine and answers batches of prompts.

    A batch never waits for the batch before it to end: the engine is topped up before every step, urgent
    batches (lower ``priority``) first. An urgent prompt has to wait for the step under way and shares the next one;
    so while urgent batches come in, few patient prompts are let in, and the steps are short.

    Args:
        load: Makes the engine; runs in the thread, because OpenMP's thread team belongs to the thread that
            computes.
        levels: Number of log-probabilities of one answer.
        limit: Prompts inside the engine at most; the rest waits here, where urgent ones can overtake.
        patient_limit: The same for patient prompts while urgent ones come in; None for no difference.
        patient_tokens: Tokens of patient prompts inside at most, but one prompt always: what is inside when the first
            urgent one comes has to be worked through. None for any number.
        on_failure: Called in the thread after an engine has failed and every waiting future knows.

    Raises:
        Exception: Whatever ``load`` raises.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        *,
        levels: int,
        limit: int,
        patient_limit: int | None = None,
        patient_tokens: int | None = None,
        on_failure: Callable[[Exception], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._levels, self._limit, self._on_failure = levels, limit, on_failure
        self._patient_limit = limit if patient_limit is None else patient_limit
        self._patient_tokens = float("inf") if patient_tokens is None else patient_tokens
        self._clock, self._urgent_until = clock, -float("inf")
        self._timer = StepTimer(clock)
        self._patient_inside = self._tokens_inside = 0
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._waiting: list[_Batch[Any]] = []  # heap: most urgent batch first
        self._inside: dict[int, tuple[_Batch[Any], int]] = {}  # request to batch and row
        self._closed: Exception | None = None
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(load, ready), name="label-engine", daemon=True)
        self._thread.start()
        ready.result()

    @property
    def healthy(self) -> bool:
        """Whether the thread answers."""
        return self._closed is None

    @property
    def step_s(self) -> float:
        """Seconds that the step under way has taken so far; 0 between steps."""
        return self._timer.seconds

    def submit(
        self, prompts: list[list[int]], finish: Callable[[Floats], Answer], *, priority: int = STREAM_PRIORITY
    ) -> Future[Answer]:
        """Ask for a batch; any thread may call.

        Args:
            prompts: Token ids.
            finish: Turns log-probabilities, shape (prompts, levels), into the result. Runs in the thread.
            priority: Lower goes first.

        Returns:
            The result of ``finish``, or ``ModelUnavailable`` when the engine fails. Cancelling it spares the
            prompts that are not yet inside the engine.
        """
        answers = np.full((len(prompts), self._levels), np.nan)
        batch = _Batch(priority, next(self._numbers), prompts, answers, finish)
        with self._changed:
            if self._closed is not None:
                batch.fail(self._closed)
            elif prompts:
                if not batch.is_patient:
                    self._urgent_until = self._clock() + URGENT_FOR_S
                heapq.heappush(self._waiting, batch)
                self._changed.notify()
            else:
                batch.settle()
        return batch.future

    def close(self) -> None:
        """Stop after the current step; what is not answered by then fails with ``ModelUnavailable``."""
        with self._changed:
            self._closed = self._closed or ModelUnavailable("the engine was closed; send the batch again")
            self._changed.notify()
        self._thread.join()

    def _run(self, load: Callable[[], Engine], ready: Future[None]) -> None:
        try:
            engine = load()
        except BaseException as error:  # the one who waits for ready gets it
            ready.set_exception(error)
            return
        ready.set_result(None)
        failure: Exception | None = None
        try:
            while self._has_work():
                with self._timer.step():
                    self._feed(engine)
                    self._collect(engine.step())
        except Exception as error:
            _log.exception("the engine failed")
            failure = error
        self._give_up(failure)
        if failure is not None and self._on_failure is not None:
            self._on_failure(failure)  # first: what has failed may hang when it is closed
        engine.close()

    def _has_work(self) -> bool:
        """Wait for a batch; False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting or self._inside)
            return self._closed is None

    def _feed(self, engine: Engine) -> None:
        while len(self._inside) < self._limit:
            with self._changed:
                batch = self._most_urgent()
            if batch is None or (batch.is_patient and self._is_crowded()):
                return
            request = next(self._numbers)
            self._inside[request] = (batch, batch.fed)
            self._count(batch, batch.fed, 1)
            engine.add(request, batch.prompts[batch.fed], batch.priority)
            batch.fed += 1

    def _is_crowded(self) -> bool:
        if self._tokens_inside >= self._patient_tokens:
            return True
        return self._patient_inside >= self._patient_limit and self._clock() < self._urgent_until

    def _count(self, batch: _Batch[Any], row: int, change: int) -> None:
        if batch.is_patient:
            self._patient_inside += change
            self._tokens_inside += change * len(batch.prompts[row])

    def _most_urgent(self) -> _Batch[Any] | None:
        while self._waiting:
            batch = self._waiting[0]
            if batch.fed < len(batch.prompts) and not batch.future.cancelled():
                return batch
            heapq.heappop(self._waiting)
        return None

    def _collect(self, finished: Iterable[tuple[int, Sequence[float]]]) -> None:
        for request, log_probabilities in finished:
            batch, row = self._inside.pop(request)
            self._count(batch, row, -1)
            batch.answers[row] = log_probabilities
            batch.answered += 1
            if batch.answered == len(batch.prompts):
                batch.settle()

    def _give_up(self, failure: Exception | None) -> None:
        with self._changed:
            if failure is not None:
                self._closed = ModelUnavailable(f"the engine failed and restarts: {type(failure).__name__}: {failure}")
            unanswered = {batch.number: batch for batch, _ in self._inside.values()}
            unanswered |= {batch.number: batch for batch in self._waiting}
            self._waiting.clear()
            self._inside.clear()
            self._patient_inside = self._tokens_inside = 0
        for batch in unanswered.values():
            assert self._closed is not None
            batch.fail(self._closed)
