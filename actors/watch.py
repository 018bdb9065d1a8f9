"""A value that is looked up again and again in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from labelstream.schemas.errors import LabelstreamError

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A look that takes long (a large catalogue) is taken less often, so that it leaves nine tenths of a core alone.
_REST = 9.0


class Watch(Generic[T]):
    """Whoever reads ``value`` gets the newest that could be had; a look that fails changes nothing.

    The new value is ready before it takes the place of the old one, by one assignment: a reader that takes it once
    works with one of the two, never with parts of both.

    Args:
        name: What is looked at, for the log.
        look: Gives the value, from the one before; the very same object where nothing has changed.
        before: What there is before the first look.
        interval_s: Time between two looks, at least.
    """

    def __init__(self, name: str, look: Callable[[T], T], before: T, interval_s: float) -> None:
        self.value = before
        self._name = name
        self._look = look
        self._interval_s = interval_s
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{name}", daemon=True)

    def look(self) -> None:
        """Look once; what goes wrong is logged, once as long as it stays the same."""
        try:
            found = self._look(self.value)
        except Exception as error:
            self._complain(error)
            return
        self._complaint = ""
        self.value = found

    def start(self) -> None:
        """Go on looking, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; the value stays."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = self._interval_s
        while not self._stopping.wait(pause):
            start = time.monotonic()
            self.look()
            pause = max(self._interval_s, _REST * (time.monotonic() - start))

    def _complain(self, error: Exception) -> None:
        complaint = f"{type(error).__name__}: {error}"
        if complaint != self._complaint:
            self._complaint = complaint
            unexpected = not isinstance(error, LabelstreamError)
            logger.warning("%s: %s; what was there before stays", self._name, error, exc_info=unexpected)
