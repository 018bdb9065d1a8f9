"""Memory that the C library holds on to although nobody uses it any more."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

TRIM_EVERY_S = 10.0


class HeapTrimmer:
    """Gives free pages back to the system now and then.

    A model allocates blocks of ever different sizes, and glibc keeps what is freed between others: some 5 KiB a pair
    of an engine, so that a long run looks like a leak. Without glibc it does nothing.

    Args:
        every_s: Seconds between two times at least; one takes some milliseconds.
        clock: Seconds that only grow.
    """

    def __init__(self, every_s: float = TRIM_EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock, self._last = every_s, clock, clock()
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def __call__(self) -> bool:
        """Trim if it is time; any thread may call.

        Returns:
            Whether it was time and something was done.
        """
        now = self._clock()
        if self._trim is None or now - self._last < self._every_s:
            return False
        self._last = now
        self._trim(0)
        return True
