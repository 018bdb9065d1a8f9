"""A value that is looked up again and again in the background."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from labelstream.schemas.errors import LabelstreamError
from labelstream.streaming.periodic import Periodic

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A look that takes long (a large catalogue) is taken less often, so that it leaves nine tenths of a core alone.
_REST = 9.0


class Watch(Periodic, Generic[T]):
    """Whoever reads ``value`` gets the newest that could be had.

    The new value is ready before it takes the place of the old one, by one assignment: a reader that takes it once
    works with one of the two, never with parts of both.

    Args:
        name: What is looked at, for the log.
        look: Gives the value, from the one before; the very same object where nothing has changed.
        before: What there is before the first look.
        interval_s: Time between two looks, at least.
        keeps: Whether the value stays when a look fails; else there is what was before the first look.
        at_once: See ``Periodic``.
        rest: See ``Periodic``.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[T], T],
        before: T,
        interval_s: float,
        *,
        keeps: bool = True,
        at_once: bool = False,
        rest: float = _REST,
    ) -> None:
        super().__init__(f"watch-{name}", self.look, interval_s, at_once=at_once, rest=rest)
        self.value = self._before = before
        self._name, self._look, self._keeps = name, look, keeps
        self._complaint = ""

    def look(self) -> None:
        """Look once; what goes wrong is logged, once as long as it stays the same."""
        try:
            found = self._look(self.value)
        except Exception as error:
            self._complain(error)
            self.value = self.value if self._keeps else self._before
            return
        self._complaint = ""
        self.value = found

    def _complain(self, error: Exception) -> None:
        complaint = f"{type(error).__name__}: {error}"
        if complaint != self._complaint:
            self._complaint = complaint
            unexpected = not isinstance(error, LabelstreamError)
            level = logging.WARNING if unexpected or self._keeps else logging.INFO
            now = "what was there before stays" if self._keeps else "nothing is known of it for now"
            logger.log(level, "%s: %s; %s", self._name, error, now, exc_info=unexpected)
