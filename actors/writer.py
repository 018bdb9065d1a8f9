"""The Ray actor that writes the lake."""

from __future__ import annotations

from typing import Any, NamedTuple

from labelstream.actors.actor_names import WRITER
from labelstream.actors.actor_process import log_as_an_actor, yield_to_models
from labelstream.actors.remote import actor_options
from labelstream.schemas.settings import Settings
from labelstream.streaming.commit import Commit, Receipt
from labelstream.streaming.waiting_rows import Resolvable
from labelstream.streaming.writer import LakeWriter


class LakeStatus(NamedTuple):
    """Where the lake is.

    Attributes:
        snapshot: Its newest snapshot.
        offsets: The next offset to consume of each (topic, partition).
        totals: Counts since the lake began.
    """

    snapshot: int
    offsets: dict[tuple[str, int], int]
    totals: dict[str, int]


class Writer:
    """Holds the one connection that writes. One call at a time: Ray queues the others."""

    def __init__(self, settings: Settings) -> None:
        log_as_an_actor(settings)
        yield_to_models()
        self._settings = settings
        self._opened: LakeWriter | None = None

    @property
    def _writer(self) -> LakeWriter:
        # Opened at the first call, not in the constructor: a lake that is locked or away is then an error of
        # that call, which the caller retries, and not the death of the actor.
        if self._opened is None:
            self._opened = LakeWriter(self._settings)
        return self._opened

    def commit(self, commit: Commit) -> Receipt:
        """See ``LakeWriter.commit``."""
        return self._writer.commit(commit)

    def offsets(self) -> dict[tuple[str, int], int]:
        """See ``LakeWriter.offsets``."""
        return self._writer.offsets()

    def resolvable(self, limit: int) -> Resolvable:
        """See ``LakeWriter.resolvable``."""
        return self._writer.resolvable(limit)

    def status(self) -> LakeStatus:
        """Where the lake is."""
        return LakeStatus(self._writer.snapshot, self._writer.offsets(), self._writer.totals())


def writer_options(settings: Settings) -> dict[str, Any]:
    """Ray's options for the ``Writer`` actor."""
    return actor_options(settings, WRITER)
