"""Waiting events are looked at again when the catalogue or the queries have grown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from labelstream.streaming.batch import Batch, BatchBuilder
from labelstream.streaming.retry import RetriedCall

if TYPE_CHECKING:
    from labelstream.schemas.settings import Settings
    from labelstream.streaming.flight import Services
    from labelstream.streaming.waiting_rows import Resolvable

BEHIND_S = 0.5
# The question reads all queries and products, in the one Writer: a pause is so many times as long as that took. How
# long the question waited for its turn does not count: a Writer that was busy for a while would cost a long silence.
REST = 10.0


class Resolver:
    """Asks the lake, now and then, which waiting events can be joined; one batch of them at a time."""

    def __init__(self, settings: Settings, services: Services, builder: BatchBuilder) -> None:
        self._interval_s = settings.stream.resolve_interval_s
        self._limit = settings.stream.batch_records
        self._services = services
        self._builder = builder
        self._asked: RetriedCall[Resolvable] | None = None
        self._next = self._rested = 0.0
        self.nothing_left_at_snapshot = -1

    def look_again(self) -> None:
        """Something has changed that may help a waiting event."""
        self._next = self._rested

    def reset(self) -> None:
        """Forget what was asked; after batches were dropped."""
        self._asked, self._next = None, self._rested

    def poll(self, in_flight: Sequence[Batch]) -> Batch | None:
        """A batch of events that need not wait any more, if there is one.

        Args:
            in_flight: Batches on their way. One batch of waiting events at a time, so that none is taken up
                twice.

        Raises:
            TransientError: The writer has been unavailable for too long.
        """
        if any(batch.resolved for batch in in_flight):
            self._asked = None
            return None
        if self._asked is None:
            if time.monotonic() >= self._next:
                # With patience: while only waiting events are left, nobody but us would notice a writer that hangs.
                self._asked = RetriedCall(self._ask, self._services.writer_patience)
            return None
        if not self._asked.poll():
            return None
        answer, self._asked = self._asked.result(), None
        self._rested = time.monotonic() + REST * answer.seconds
        self._pause(self._interval_s)
        return self._take_up(answer, in_flight)

    def _pause(self, seconds: float) -> None:
        self._next = max(time.monotonic() + seconds, self._rested)

    def _ask(self) -> Future[Resolvable]:
        return self._services.writer.resolvable(self._limit)

    def _take_up(self, answer: Resolvable, in_flight: Sequence[Batch]) -> Batch | None:
        if not answer.rows:
            self.nothing_left_at_snapshot = answer.snapshot
            return None
        batch = self._builder.prepare_waiting(answer.rows, in_flight)
        if not batch.resolved:  # this machine's store is behind the lake
            self._pause(BEHIND_S)
            return None
        return batch
