"""On a machine without a Writer, somebody else brings the local store up to date: one of the processes that use it."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from labelstream.schemas.errors import LabelstreamError, LakeUnavailable, TerminalError, TransientError
from labelstream.schemas.settings import Settings
from labelstream.streaming.follow import catch_up
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.periodic import Periodic
from labelstream.streaming.retry import Endurance

logger = logging.getLogger(__name__)

INTERVAL_S = 0.5


class FollowTurn:
    """Who keeps the store of this machine up to date: whoever has the lock, until its process ends.

    It saves work and guards nothing: two that follow at once take turns by LMDB's own lock, and the second finds
    nothing to do.

    Args:
        folder: The store's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "follower.lock"
        self._file: int | None = None

    def take(self) -> bool:
        """Whether it is our turn, now and from now on."""
        if self._file is None:
            opened = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(opened)
                return False
            self._file = opened
        return True

    def give_up(self) -> None:
        """Let somebody else."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class StoreFollower:
    """Follows the lake in a thread of its own, where nobody else on this machine does; use as a context manager.

    Args:
        settings: Where the lake is, and how long its errors are borne.
        store: Of this machine.
        interval_s: Seconds from one look to the next.
        on_error: Called once, when the follower has given up; ``check`` then raises.

    Attributes:
        has_begun: Set once the store holds the lake as it was a moment ago, or nobody will see to that any more.
    """

    def __init__(
        self,
        settings: Settings,
        store: LocalStore,
        *,
        interval_s: float = INTERVAL_S,
        on_error: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._store, self._on_error = settings, store, on_error
        self._turn = FollowTurn(settings.store.path)
        self._endurance = Endurance(settings.stream.give_up_s)
        self._lake: Lake | None = None
        self.has_begun = threading.Event()
        self._error: LabelstreamError | None = None
        self._looking = Periodic("store-follower", self._look_or_end, interval_s)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._looking.close()
        self._let_go()

    def check(self) -> None:
        """Raise what has ended the follower.

        Raises:
            LabelstreamError: The lake has been unavailable for too long, or cannot be used at all, or something
                happened that nobody thought of.
        """
        if self._error is not None:
            raise self._error

    def _look_or_end(self) -> None:
        try:
            self._look_patiently()
        except LabelstreamError as error:
            logger.error("the local store is not kept up to date any more: %s", error)
            self._end_with(error)
        except Exception as error:  # a thread that ends in silence would leave a store that is old for ever
            logger.exception("the local store is not kept up to date any more")
            text = " ".join(str(error).split())
            self._end_with(TerminalError(f"the local store cannot be followed: {type(error).__name__}: {text}"))

    def _end_with(self, error: LabelstreamError) -> None:
        self._error = error
        self._looking.end()
        self._on_error()
        self._let_go()

    def _let_go(self) -> None:
        self.has_begun.set()
        self._close_lake()
        self._turn.give_up()

    def _look_patiently(self) -> None:
        try:
            self._look()
        except TransientError as error:
            self._close_lake()
            self._endurance.bear(error)
        except OSError as error:
            self._endurance.bear(LakeUnavailable(f"{self._settings.store.path}: {error}"))
        else:
            self._endurance.recovered()

    def _look(self) -> None:
        if self._turn.take():
            if self._lake is None:
                self._lake = Lake(self._settings.lake, read_only=True)
            catch_up(self._store, self._lake)
        elif not self._is_filled():  # whoever's turn it is has not filled it yet
            return
        self.has_begun.set()

    def _is_filled(self) -> bool:
        with self._store.reader() as reader:
            return reader.position is not None

    def _close_lake(self) -> None:
        if self._lake is not None:
            self._lake.close()
            self._lake = None
