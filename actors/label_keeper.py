"""Labels that somebody asked for, on their way to the lake and the labels topic."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from labelstream.schemas.errors import LakeUnavailable
from labelstream.schemas.settings import KafkaSettings
from labelstream.schemas.tables import DEAD_LETTERS, LABELS
from labelstream.streaming.commit import Commit, Receipt, rows
from labelstream.streaming.flight import Publishes
from labelstream.streaming.outputs import Publisher
from labelstream.streaming.retry import Patience, RetriedCall

_log = logging.getLogger(__name__)

_MOST_WAITING = 10_000
_BATCH = 1000
_LINGER_S = 0.5
_POLL_S = 0.01
_CLOSE_S = 10.0


class Commits(Protocol):
    """Writes the lake, somewhere else."""

    def commit(self, commit: Commit) -> Future[Receipt]:
        """Start a commit; may be asked again for the same one."""
        ...


class LatePublisher:
    """A ``Publisher`` that connects at the first commit: a broker that is away must not keep anybody from starting.

    Args:
        settings: How to reach Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._publisher: Publisher | None = None

    def publish(self, commit: Commit) -> Future[None]:
        """See ``Publisher.publish``; connects first, which may take a while.

        Raises:
            BrokerUnavailable: No broker answers.
            SettingsError: Kafka refuses us.
        """
        if self._publisher is None:
            self._publisher = Publisher.connected(self._settings)
        return self._publisher.publish(commit)

    def close(self) -> None:
        """Flush and disconnect."""
        if self._publisher is not None:
            self._publisher.close()


class KeeperReport(NamedTuple):
    """What has become of the labels that somebody asked for.

    Attributes:
        kept: Number of rows that the lake has, because of us or anyway.
        lost: Number of rows that were given up.
    """

    kept: int
    lost: int


class LabelKeeper:
    """Collects rows for a moment, publishes them, then has them written; in a thread of its own.

    What the lake has is on the topic, too. A row that is in the lake already is left out there. What waits here when
    the process is killed, or cannot be kept, is missing until somebody asks for the same label again, or the stream
    meets the pair: these labels are a by-product, with no offset that could bring them back.

    Args:
        publisher: To the labels topic; None where labels go to no topic.
        writer: To the lake.
        broker_patience: With the publisher. Rows that cannot be kept for longer are given up, and counted.
        writer_patience: With the writer.
        close_s: How long ``close`` goes on trying.
    """

    def __init__(
        self,
        publisher: Publishes | None,
        writer: Commits,
        *,
        broker_patience: Patience,
        writer_patience: Patience,
        close_s: float = _CLOSE_S,
    ) -> None:
        self._publisher, self._writer, self._close_s = publisher, writer, close_s
        self._broker_patience, self._writer_patience = broker_patience, writer_patience
        self._rows: queue.Queue[dict[str, Any]] = queue.Queue(_MOST_WAITING)
        self._kept = self._lost = 0
        self._counting = threading.Lock()
        self._failing = False
        self._close_by: float | None = None
        self._thread = threading.Thread(target=self._run, name="label-keeper", daemon=True)
        self._thread.start()

    def report(self) -> KeeperReport:
        """What it has done since it was made; any thread may ask."""
        with self._counting:
            return KeeperReport(self._kept, self._lost)

    def put(self, labels: list[dict[str, Any]]) -> None:
        """Take rows of ``labels``; never waits. Where too many wait already, they are given up."""
        for index, row in enumerate(labels):
            try:
                self._rows.put_nowait(row)
            except queue.Full:
                self._give_up(len(labels) - index, "too many wait already")
                return

    def close(self) -> None:
        """Keep what waits, if that can be done soon, and end."""
        self._close_by = time.monotonic() + self._close_s
        self._thread.join(self._close_s + _LINGER_S + 1)
        if self._thread.is_alive():  # it connects, and nobody can interrupt that
            _log.warning("labels that were asked for may not be kept: Kafka does not answer")

    def _run(self) -> None:
        while self._close_by is None or not self._rows.empty():
            if batch := self._batch():
                self._keep(batch)

    def _batch(self) -> list[dict[str, Any]]:
        """The next rows; none after a moment without any."""
        batch: dict[str, dict[str, Any]] = {}
        end = time.monotonic() + _LINGER_S
        while len(batch) < _BATCH:
            try:
                row = self._rows.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            batch.setdefault(row["label_key"], row)
        return list(batch.values())

    def _keep(self, batch: list[dict[str, Any]]) -> None:
        tables = {LABELS.name: rows(LABELS, batch), DEAD_LETTERS.name: rows(DEAD_LETTERS, [])}
        commit = Commit(uuid.uuid4().hex, (), tables)
        try:
            if (publisher := self._publisher) is not None:
                self._call(lambda: publisher.publish(commit), self._broker_patience)
            self._call(lambda: self._writer.commit(commit), self._writer_patience)
        except Exception as error:  # whatever it is, the next rows may do better
            self._failing = True
            self._give_up(len(batch), f"{type(error).__name__}: {error}")
        else:
            self._failing = False
            with self._counting:
                self._kept += len(batch)

    def _give_up(self, count: int, why: str) -> None:
        with self._counting:
            self._lost += count
            lost = self._lost
        _log.error("%d labels that were asked for are not kept (%d so far): %s", count, lost, why)

    def _call(self, call: Callable[[], Future[Any]], patience: Patience) -> None:
        """Wait for it; where the last rows were given up, the next ones have one try."""
        attempt = RetriedCall(call, replace(patience, give_up_s=0.0) if self._failing else patience)
        while not attempt.poll():
            if self._close_by is not None and time.monotonic() >= self._close_by:
                raise LakeUnavailable(f"the {patience.name} has not answered, and this process ends")
            time.sleep(_POLL_S)
