"""One answer for all who ask at about the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class SharedAnswer(Generic[Answer]):
    """Asks no more often than is said, however many want to know.

    Args:
        ask: Finds the answer.
        fresh_s: How long an answer, or the error in its place, is given to others.
    """

    def __init__(self, ask: Callable[[], Awaitable[Answer]], fresh_s: float) -> None:
        self._ask, self._fresh_s = ask, fresh_s
        self._asking = asyncio.Lock()
        self._asked_at = -float("inf")
        self._last: Answer | Exception | None = None

    async def __call__(self) -> Answer:
        """The answer of a moment ago, or a new one; raises what asking raised."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= self._fresh_s:
                try:
                    self._last = await self._ask()
                except Exception as error:
                    self._last = error
                self._asked_at = time.monotonic()
            last = self._last
        if isinstance(last, Exception):
            raise last.with_traceback(None)  # which grows with everybody who is told
        return last  # type: ignore[return-value]  # it has been asked
