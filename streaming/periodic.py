"""A function that runs again and again in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Self

logger = logging.getLogger(__name__)


class Periodic:
    """Runs a function now and then, in a thread of its own; use as a context manager.

    An error is logged and the next run comes all the same: a thread that nobody looks at must not end in silence.

    Args:
        name: Of the thread, and for the log.
        function: What to do.
        interval_s: From the end of one run to the start of the next, at least.
        at_once: Whether the first run comes at the start, or one interval later.
        rest: A pause is at least this many times as long as the run before it.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], object],
        interval_s: float,
        *,
        at_once: bool = True,
        rest: float = 0.0,
    ) -> None:
        self._function, self._interval_s, self._at_once, self._rest = function, interval_s, at_once, rest
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """No further run; the function may say so itself."""
        self._stopping.set()

    def close(self) -> None:
        """End, and return once a run under way is through. Not for the function itself."""
        self.end()
        if self._thread.is_alive():
            self._thread.join()

    def wait(self, seconds: float) -> bool:
        """A pause within a run, cut short by the end.

        Returns:
            Whether this is the end.
        """
        return self._stopping.wait(seconds)

    def _run(self) -> None:
        pause = 0.0 if self._at_once else self._interval_s
        while not self.wait(pause):
            began = time.monotonic()
            try:
                self._function()
            except Exception:
                logger.exception("%s failed; it is tried again", self._thread.name)
            pause = max(self._interval_s, self._rest * (time.monotonic() - began))
