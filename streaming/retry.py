"""Calls to other processes that are made again after transient errors, without blocking the caller."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Event
from typing import Generic, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, stop_any, stop_when_event_set, wait_fixed

from labelstream.schemas.errors import ModelUnavailable, TransientError

logger = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
AGAIN_S = 0.5


def patiently(call: Callable[[], T], give_up_s: float, stopping: Event | None = None) -> T:
    """Call until there is no transient error, and wait meanwhile.

    Args:
        call: May be called many times.
        give_up_s: Transient errors for longer than this are raised.
        stopping: Once it is set, the next transient error is raised.

    Raises:
        TransientError: It has lasted too long, or nobody wants to wait any more.
        Exception: Whatever else ``call`` raises, at once.
    """
    end = stop_any(stop_after_delay(give_up_s), stop_when_event_set(stopping or Event()))
    again = Retrying(retry=retry_if_exception_type(TransientError), stop=end, wait=wait_fixed(AGAIN_S), reraise=True)
    return again(call)


@dataclass(frozen=True)
class Patience:
    """How long to wait, and what to do about silence.

    Attributes:
        name: What is called, for messages.
        answer_timeout_s: One call that takes longer counts as hanging.
        give_up_s: Transient errors for longer than this are passed on.
        on_hang: Called when a call hangs, before the next try (restarts the actor).
    """

    name: str
    answer_timeout_s: float
    give_up_s: float
    on_hang: Callable[[], None] = lambda: None


class Endurance:
    """Bears transient errors of something that is asked again and again, for a while.

    Args:
        give_up_s: How long in a row.
        clock: Seconds, for tests.
    """

    def __init__(self, give_up_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._give_up_s = give_up_s
        self._clock = clock
        self._since: float | None = None

    def bear(self, error: TransientError) -> None:
        """Note an error, and let a moment pass.

        Raises:
            TransientError: This one, when there has been nothing else for too long.
        """
        if self._since is None:
            self._since = self._clock()
            logger.warning("%s", error)
        if self._clock() - self._since > self._give_up_s:
            raise error
        time.sleep(FIRST_WAIT_S)  # an error that comes at once must not spin

    def recovered(self) -> None:
        """It works again."""
        self._since = None


class RetriedCall(Generic[T]):
    """A call in flight; ask ``poll()`` now and then.

    Args:
        call: Starts the call; may be used several times.
        patience: How long to go on.
        clock: Seconds, for tests.
        on_answer: Called from any thread when there is an answer, so that nobody need ask ``poll()`` often.
    """

    def __init__(
        self,
        call: Callable[[], Future[T]],
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        on_answer: Callable[[object], None] = lambda _: None,
    ) -> None:
        self._call = call
        self._patience = patience
        self._clock = clock
        self._on_answer = on_answer
        self._failing_since: float | None = None
        self._wait_s = FIRST_WAIT_S
        self._next_try = 0.0
        self._future: Future[T] | None = None
        self._start()

    def _start(self) -> None:
        self._started = self._clock()
        try:
            self._future = self._call()
        except TransientError as error:
            self._back_off(error)
        else:
            self._future.add_done_callback(self._on_answer)

    def poll(self) -> bool:
        """Whether the result is there.

        Raises:
            TransientError: It has lasted longer than ``give_up_s``.
            Exception: Whatever else the call raised.
        """
        if self._future is None:
            if self._clock() >= self._next_try:
                self._start()
            return False
        if not self._future.done():
            self._check_hang()
            return False
        error = self._future.exception()
        if isinstance(error, TransientError):
            self._back_off(error)
            return False
        if error is not None:
            raise error
        return True

    def result(self) -> T:
        """The result, once ``poll()`` has said True."""
        assert self._future is not None
        return self._future.result()

    def _check_hang(self) -> None:
        if self._clock() - self._started > self._patience.answer_timeout_s:
            self._patience.on_hang()
            self._back_off(
                ModelUnavailable(f"{self._patience.name} has not answered for {self._patience.answer_timeout_s:g} s")
            )

    def _back_off(self, error: TransientError) -> None:
        now = self._clock()
        self._failing_since = now if self._failing_since is None else self._failing_since
        if now - self._failing_since >= self._patience.give_up_s:
            raise error
        logger.warning("%s: %s; next try in %.1f s", self._patience.name, error, self._wait_s)
        self._future, self._next_try = None, now + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
