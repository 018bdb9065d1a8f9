"""Batches that the lake has and this machine's store has not yet."""

from __future__ import annotations

from collections import deque

from labelstream.streaming.batch import Batch
from labelstream.streaming.local_store import LocalStore

MOST = 64


class Unfollowed:
    """Where the Writer is on another machine, the store here learns of a commit a moment later.

    Until then the batch is looked through like one in flight: an event must find the query that came before it.

    Args:
        store: Of this machine.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._arrived: deque[tuple[int, Batch]] = deque()

    def add(self, snapshot: int, batch: Batch) -> None:
        """A batch that the lake has since this snapshot."""
        self._arrived.append((snapshot, batch))

    def batches(self) -> list[Batch]:
        """Those that the store does not have yet, oldest first."""
        if self._arrived:
            with self._store.reader() as reader:
                position = reader.position
            while self._arrived and position is not None and position[1] >= self._arrived[0][0]:
                self._arrived.popleft()
        return [batch for _, batch in self._arrived]

    @property
    def is_full(self) -> bool:
        """Whether to take no more before the store has caught up."""
        return len(self._arrived) >= MOST and len(self.batches()) >= MOST
