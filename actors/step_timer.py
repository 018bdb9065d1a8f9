"""How long the step of a thread that works in steps takes: one that does not end is how a model hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StepTimer:
    """One thread takes steps, any other may look.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: float | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around one step."""
        self._began = self._clock()
        try:
            yield
        finally:
            self._began = None

    @property
    def seconds(self) -> float:
        """Seconds that the step under way has taken so far; 0 between steps."""
        began = self._began
        return 0.0 if began is None else self._clock() - began
