"""Labels that were made for somebody: known at once, and on this machine's disk soon after."""

from __future__ import annotations

import logging
import threading
from collections import ChainMap
from collections.abc import Iterable, Mapping
from typing import Self

from labelstream.schemas.errors import LabelstreamError
from labelstream.streaming.known_label import KnownLabel
from labelstream.streaming.local_store import LocalStore

_MOST_WAITING = 50_000

_log = logging.getLogger(__name__)


class Answers:
    """Writes labels to the store in a thread of its own; use as a context manager.

    A machine's store has one writer at a time. While another process fills it from the lake, that takes minutes, and
    nobody who asks for a label should wait for that. It is a cache: what cannot be written, or is too much, is
    forgotten.

    Args:
        store: Of this machine; to be closed after this.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._waiting: dict[str, KnownLabel] = {}
        self._being_written: dict[str, KnownLabel] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @property
    def recent(self) -> Mapping[str, KnownLabel]:
        """What may not be in the store yet, by key. Take it before a view of the store: one of the two has it."""
        with self._changed:
            return ChainMap(self._waiting, self._being_written)

    def put(self, labels: Iterable[KnownLabel]) -> None:
        """Remember labels; never waits."""
        with self._changed:
            for label in labels:
                if len(self._waiting) < _MOST_WAITING:
                    self._waiting[label.label_key] = label
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._being_written = {}
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                self._being_written, self._waiting = self._waiting, {}
            self._write(list(self._being_written.values()))

    def _write(self, labels: list[KnownLabel]) -> None:
        try:
            with self._store.writer() as writer:
                writer.put_answers(labels)
        except LabelstreamError as error:
            if str(error) != self._complaint:  # said once, not for every request
                _log.error("labels are judged again when somebody asks again: %s", error)
            self._complaint = str(error)
        else:
            self._complaint = ""
