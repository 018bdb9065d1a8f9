"""Whoever waits for several answers at once is woken by the first of them."""

from __future__ import annotations

import threading


class WakeUp:
    """Ends a wait from another thread; one that comes before the wait ends it too, so none is missed."""

    def __init__(self) -> None:
        self._called = threading.Event()

    def __call__(self, _: object = None) -> None:
        """Something has come; any thread may say so. Takes what a future hands to its callbacks."""
        self._called.set()

    def wait(self, seconds: float) -> bool:
        """Wait until something has come since the last wait, or the time is over.

        Returns:
            Whether something has come.
        """
        came = self._called.wait(seconds)
        self._called.clear()
        return came
