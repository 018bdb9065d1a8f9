"""Counts the work of a model actor, and the time in which there was any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class WorkReport:
    """What one model actor has done since it started.

    Attributes:
        batches: Batches answered.
        pairs: Pairs answered, errors included.
        errors: Pairs that could not be judged.
        busy_s: Seconds in which at least one batch was being worked on.
        started_at: Unix time of its start; another one after a restart.
        under_way: Batches that it has now, those that wait included.
        requests: Those of them for which somebody waits.
        answers: Whether the model goes on with them.
    """

    batches: int
    pairs: int
    errors: int
    busy_s: float
    started_at: float = 0.0
    under_way: int = 0
    requests: int = 0
    answers: bool = True

    @property
    def pairs_per_second(self) -> float:
        """Throughput while there was work; 0 before the first batch."""
        return self.pairs / self.busy_s if self.busy_s else 0.0


class BusyMeter:
    """For one event loop; not for threads.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._batches = self._pairs = self._errors = self._under_way = self._requests = 0
        self._busy_s = self._since = 0.0
        self._started_at = time.time()

    @contextmanager
    def batch(self, *, is_request: bool = False) -> Iterator[None]:
        """Around the work on one batch; overlapping batches count their time once.

        Args:
            is_request: Somebody waits for the answer.
        """
        if self._under_way == 0:
            self._since = self._clock()
        self._under_way += 1
        self._requests += is_request
        try:
            yield
        finally:
            self._under_way -= 1
            self._requests -= is_request
            if self._under_way == 0:
                self._busy_s += self._clock() - self._since

    def count(self, *, pairs: int, errors: int = 0) -> None:
        """Add one answered batch."""
        self._batches += 1
        self._pairs += pairs
        self._errors += errors

    def report(self, *, answers: bool = True) -> WorkReport:
        """The sums so far, with the time of batches that are under way.

        Args:
            answers: See ``WorkReport``.
        """
        running = self._clock() - self._since if self._under_way else 0.0
        return WorkReport(
            self._batches,
            self._pairs,
            self._errors,
            self._busy_s + running,
            self._started_at,
            self._under_way,
            self._requests,
            answers,
        )
