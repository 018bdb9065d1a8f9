"""The one that writes: lake first, local store after."""

from __future__ import annotations

import time

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from labelstream.schemas.errors import LakeBusy
from labelstream.schemas.settings import Settings
from labelstream.schemas.tables import LABELS
from labelstream.streaming.commit import Commit, Receipt
from labelstream.streaming.follow import catch_up, follow_commit
from labelstream.streaming.follower import FollowTurn
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.waiting_rows import Resolvable, resolvable_rows

# Writers on other machines are done within a moment; who waits longer says so to the caller.
PATIENCE_S = 10.0
WAIT = wait_random(0.01, 0.1)


class LakeWriter:
    """Commits batches to the lake and keeps this machine's store beside it.

    A crash between the two is mended at the next start: the store follows the lake from the snapshot that it
    has noted. Several writers, each with a store of its own machine, may write one lake at once.

    Args:
        settings: Where lake and store are.
    """

    def __init__(self, settings: Settings) -> None:
        self._lake = Lake(settings.lake)
        self._store = LocalStore(settings.store.path, settings.store.max_bytes)
        # Beside a Writer nobody else need follow the lake into this store; if somebody does already, no harm is done.
        self._turn = FollowTurn(settings.store.path)
        self._turn.take()
        self._identity = self._lake.identity
        self._snapshot = catch_up(self._store, self._lake)

    def close(self) -> None:
        """Give lake and store back."""
        self._turn.give_up()
        self._lake.close()
        self._store.close()

    def commit(self, commit: Commit) -> Receipt:
        """Write a batch exactly once.

        Raises:
            StaleBatch: Its offsets are somebody else's by now.
            TransientError: Nothing was written, try again.
        """
        busy = retry_if_exception_type(LakeBusy)
        again = Retrying(retry=busy, stop=stop_after_delay(PATIENCE_S), wait=WAIT, reraise=True)
        return again(self._commit, commit)

    def _commit(self, commit: Commit) -> Receipt:
        fresh = commit

        def without_known_labels() -> Commit:
            """Of the very snapshot that the commit follows: so no label is doubled, whoever else writes."""
            nonlocal fresh
            if self._lake.snapshot != self._snapshot:  # somebody else has written too (compaction, another writer)
                self._snapshot = catch_up(self._store, self._lake)
            fresh = commit.without_labels(self._duplicates(commit))
            return fresh

        if not self._lake.commit(commit, without_known_labels):
            self._snapshot = catch_up(self._store, self._lake)  # the first try may have died before the store had it
            return Receipt(self._snapshot, repeated=True, duplicates=0)
        self._follow(fresh)
        duplicates = len(commit.label_ranges) - len(fresh.label_ranges)
        return Receipt(self._snapshot, repeated=False, duplicates=duplicates)

    def _follow(self, commit: Commit) -> None:
        before, after = self._snapshot, self._lake.committed_snapshot
        if after == before + 1 and follow_commit(self._store, commit, self._identity, before):
            self._snapshot = after
        else:
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

    def resolvable(self, limit: int) -> Resolvable:
        """Waiting events that can be joined by now."""
        began, snapshot = time.monotonic(), self._lake.snapshot
        rows = resolvable_rows(self._lake, limit)
        return Resolvable(snapshot, rows, time.monotonic() - began)

    def totals(self) -> dict[str, int]:
        """All counts since the lake began."""
        return self._lake.totals()

    @property
    def snapshot(self) -> int:
        """The newest snapshot of the lake."""
        return self._lake.snapshot
