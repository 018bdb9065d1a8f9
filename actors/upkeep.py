"""Looks after what runs, until an error ends that."""

from __future__ import annotations

import logging
from collections.abc import Callable

from labelstream.actors.remote import first_line
from labelstream.schemas.errors import LabelstreamError, TerminalError
from labelstream.streaming.periodic import Periodic

LOOK_EVERY_S = 0.5

_log = logging.getLogger(__name__)


class Upkeep(Periodic):
    """Looks again and again, in a thread of its own; an error is the last look.

    Args:
        ended: What an error means, such as "the stream has ended".
        look: At all of it, once.
        interval_s: Seconds from one look to the next.
    """

    def __init__(self, ended: str, look: Callable[[], None], interval_s: float = LOOK_EVERY_S) -> None:
        super().__init__("upkeep", self._run_once, interval_s, at_once=False)
        self._ended, self._look = ended, look
        self._failure: LabelstreamError | None = None

    @property
    def failure(self) -> LabelstreamError | None:
        """What was the end of it; None while all is well. Safe from any thread."""
        return self._failure

    def check(self) -> None:
        """See that all is well.

        Raises:
            RuntimeError: There has been an error.
        """
        if self._failure is not None:
            raise RuntimeError(f"{self._ended}: {self._failure}")

    def _run_once(self) -> None:
        try:
            self._look()
        except LabelstreamError as error:
            _log.error("%s: %s: %s", self._ended, type(error).__name__, error)
            self._end_with(error)
        except Exception as error:  # what nobody looks after must not seem well
            _log.exception(self._ended)
            self._end_with(TerminalError(f"{type(error).__name__}: {first_line(error)}"))

    def _end_with(self, error: LabelstreamError) -> None:
        self._failure = error
        self.end()
