"""The one that writes: lake first, local store after."""

from __future__ import annotations

from typing import Any

from labelstream.schemas.settings import Settings
from labelstream.schemas.tables import LABELS
from labelstream.streaming.commit import Commit, Receipt
from labelstream.streaming.follow import apply_commit, catch_up
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore


class LakeWriter:
    """Commits batches to the lake and keeps this machine's store beside it.

    A crash between the two is mended at the next start: the store follows the lake from the snapshot that it
    has noted.

    Args:
        settings: Where lake and store are.
    """

    def __init__(self, settings: Settings) -> None:
        self._lake = Lake(settings.lake)
        self._store = LocalStore(settings.store.path, settings.store.max_bytes)
        self._identity = self._lake.identity
        self._snapshot = catch_up(self._store, self._lake)

    def close(self) -> None:
        """Give lake and store back."""
        self._lake.close()
        self._store.close()

    def commit(self, commit: Commit) -> Receipt:
        """Write a batch exactly once.

        Raises:
            StaleBatch: Its offsets are somebody else's by now.
            TransientError: Nothing was written, try again.
        """
        fresh = commit.without_labels(self._duplicates(commit))
        duplicates = len(commit.label_ranges) - len(fresh.label_ranges)
        if not self._lake.commit(fresh):
            self._snapshot = catch_up(self._store, self._lake)  # the first try may have died before the store had it
            return Receipt(self._snapshot, repeated=True, duplicates=0)
        self._follow(fresh)
        return Receipt(self._snapshot, repeated=False, duplicates=duplicates)

    def _follow(self, commit: Commit) -> None:
        newest = self._lake.snapshot
        if newest == self._snapshot + 1:
            with self._store.writer() as writer:
                apply_commit(writer, commit)
                writer.set_position(self._identity, newest)
            self._snapshot = newest
        else:  # somebody else has written too (compaction, another writer)
            self._snapshot = catch_up(self._store, self._lake)

    def _duplicates(self, commit: Commit) -> set[int]:
        """Labels that another replica has written since this batch looked."""
        labels = commit.tables.get(LABELS.name)
        if labels is None or not labels.num_rows:
            return set()
        with self._store.reader() as reader:
            keys = enumerate(labels.column("label_key").to_pylist())
            return {row for row, key in keys if reader.has_label(key)}

    def offsets(self) -> dict[tuple[str, int], int]:
        """The next offset to consume of each (topic, partition)."""
        return self._lake.offsets()

    def resolvable(self, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """The lake's snapshot, and waiting events that can be joined at that point."""
        snapshot = self._lake.snapshot
        return snapshot, self._lake.resolvable(limit)

    def totals(self) -> dict[str, int]:
        """All counts since the lake began."""
        return self._lake.totals()

    @property
    def snapshot(self) -> int:
        """The newest snapshot of the lake."""
        return self._lake.snapshot
