"""The consumer loop: poll, batch, judge, commit; pause rather than wait, give back rather than guess."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from labelstream.schemas.errors import BrokerUnavailable, StaleBatch
from labelstream.schemas.settings import Settings
from labelstream.streaming.assignment import Assignment
from labelstream.streaming.batch import Batch, BatchBuilder
from labelstream.streaming.buffer import Partition, RecordBuffer
from labelstream.streaming.catalogue_gate import CatalogueGate
from labelstream.streaming.durations import Durations
from labelstream.streaming.flight import Flight, Services
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.reading import Reading
from labelstream.streaming.resolve import Resolver
from labelstream.streaming.retry import Endurance, patiently
from labelstream.streaming.unfollowed import Unfollowed
from labelstream.streaming.wake_up import WakeUp

logger = logging.getLogger(__name__)

IDLE_POLL_MS = 250
BUSY_WAIT_S = 0.1


@dataclass
class IngestReport:
    """What one replica is doing, for the supervisor, ``status`` and the metrics."""

    replica: int = 0
    alive_at: float = 0.0
    batches: int = 0
    batch_seconds: Durations = field(default_factory=Durations)
    pairs: int = 0
    in_flight: int = 0
    stale_batches: int = 0
    failed_commits: int = 0
    idle: bool = False
    partitions: list[Partition] = field(default_factory=list)
    resolves: bool = False
    resolved_at_snapshot: int = -1
    store: dict[str, int] = field(default_factory=dict)


class Ingest:
    """One replica of the stream; ``run()`` until ``stop()``.

    Args:
        settings: All settings.
        consumer: Not subscribed yet, auto-commit off.
        store: What the lake knows, on this machine.
        services: Models, broker and lake.
        replica: (index, number of replicas), for static assignment.
    """

    def __init__(
        self,
        settings: Settings,
        consumer: KafkaConsumer,
        store: LocalStore,
        services: Services,
        replica: tuple[int, int] = (0, 1),
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._services = services
        self._builder = BatchBuilder(settings, services.description, store)
        self._buffer = RecordBuffer(settings.stream.batch_records, settings.stream.linger_s)
        self._reading = Reading(consumer, self._buffer)
        self._flights: deque[Flight] = deque()
        self._unfollowed = Unfollowed(store)
        self._gate = CatalogueGate(settings, consumer, services)
        self._resolver = Resolver(settings, services, self._builder)
        self._assignment = Assignment(
            settings, consumer, replica, services, on_revoked=self._revoked, on_lost=self._lost
        )
        self._broker = Endurance(settings.stream.give_up_s)
        self._woken = WakeUp()
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._store = store
        self._report = IngestReport(replica=replica[0])

    @property
    def report(self) -> IngestReport:
        """A fresh picture; safe from any thread."""
        return self._report

    def stop(self) -> None:
        """Ask for an end; batches in flight get ``stream.shutdown_s`` to arrive. Safe from any thread."""
        self._deadline = time.monotonic() + self._settings.stream.shutdown_s
        self._stopping.set()

    def run(self) -> int:
        """Work until stopped.

        Returns:
            Number of batches given back unfinished; somebody will read them again.

        Raises:
            LabelstreamError: What cannot be mended here.
        """
        try:
            # A broker that has let us in can be gone again before it says which partitions there are.
            patiently(self._assignment.start, self._settings.stream.give_up_s, self._stopping)
            while not self._stopping.is_set():
                self.step()
            while self._flights and time.monotonic() < self._deadline:
                self._advance()
                self._refresh_report()
                time.sleep(0.01)
            return len(self._flights)
        finally:
            self._drop_everything()
            with contextlib.suppress(KafkaError):  # a broker that is away cannot be told that we leave
                self._consumer.close()

    def step(self) -> None:
        """One turn of the loop; never blocks for longer than a poll."""
        self._set_flow()
        self._poll()
        for partition, offset in self._assignment.settle().items():
            self._buffer.begin(partition, offset)
        if self._has_room:  # before the backlog takes it
            self._resolve_waiting()
        while self._buffer.is_ripe and self._has_room:
            batch = self._builder.prepare(self._buffer.take(), self._not_in_the_store())
            self._launch(batch)
        self._advance()
        self._assignment.commit_progress()
        self._refresh_report()

    @property
    def _has_room(self) -> bool:
        return len(self._flights) < self._settings.stream.batches_in_flight and not self._unfollowed.is_full

    def _not_in_the_store(self) -> list[Batch]:
        return [*self._unfollowed.batches(), *(flight.batch for flight in self._flights)]

    def _launch(self, batch: Batch) -> None:
        levels = len(self._settings.scale.levels)
        self._flights.append(Flight(batch, self._builder, self._services, levels, self._woken))

    def _set_flow(self) -> None:
        """Pause what must not be read now; polling goes on, so the group never misses us."""
        assigned = self._consumer.assignment()
        full = self._buffer.is_full
        events_closed = bool(assigned) and not self._gate.is_open()
        begun = self._buffer.positions
        paused = {
            partition
            for partition in assigned
            if full
            or partition not in begun
            or (events_closed and partition.topic == self._settings.kafka.events_topic)
        }
        now = self._consumer.paused()
        if paused - now:
            self._consumer.pause(*(paused - now))
        if now - paused:
            self._consumer.resume(*(now - paused))

    def _poll(self) -> None:
        busy = bool(self._flights) or not self._buffer.is_empty
        try:
            polled = self._reading.poll(0 if busy else IDLE_POLL_MS)
        except BrokerUnavailable as error:
            self._broker.bear(error)
            return
        self._broker.recovered()
        try:
            self._reading.take_in(polled)
            if not polled and not busy:
                self._reading.note_holes()
        except BrokerUnavailable:  # and what has been polled does not come again
            self._restart_from_lake()
        if busy and not polled:
            self._wait()

    def _wait(self) -> None:
        """Until records or an answer come in, a batch is ripe, or it is time to look whether something hangs."""
        self._reading.on_fetched(self._woken)
        self._woken.wait(min(BUSY_WAIT_S, self._buffer.ripe_in_s) if self._has_room else BUSY_WAIT_S)

    def _resolve_waiting(self) -> None:
        if not self._owns_first_products_partition():
            return
        batch = self._resolver.poll(self._not_in_the_store())
        if batch is not None:
            self._launch(batch)

    def _owns_first_products_partition(self) -> bool:
        """Of all replicas exactly one has it, so exactly one looks after the waiting events."""
        return TopicPartition(self._settings.kafka.products_topic, 0) in self._consumer.assignment()

    def _advance(self) -> None:
        for flight in list(self._flights)[1:]:
            flight.is_judged()  # keeps the retries of later batches going
        if not self._flights:
            return
        try:
            receipt = self._flights[0].advance()
        except StaleBatch as stale:
            logger.warning("%s; reading on from the lake", stale)
            self._report.stale_batches += 1
            self._restart_from_lake()
            return
        if receipt is not None:
            flight = self._flights.popleft()
            self._unfollowed.add(receipt.snapshot, flight.batch)
            self._arrived(flight)
            self._woken()  # the answers that the next one needs may have come long ago

    def _arrived(self, flight: Flight) -> None:
        self._report.batches += 1
        self._report.batch_seconds.add(time.monotonic() - flight.began)
        self._report.pairs += len(flight.batch.pairs)
        sorted_records = flight.batch.sorted
        if sorted_records.products or sorted_records.queries or sorted_records.waiting or flight.batch.resolved:
            self._resolver.look_again()
        if flight.batch.ranges:
            self._assignment.note_progress(flight.batch.ranges)

    def _revoked(self, partitions: set[Partition]) -> None:
        """Finish what is in flight within one deadline, then let go. The consumer must not be used here."""
        deadline = time.monotonic() + self._revoke_patience_s
        while self._flights and time.monotonic() < deadline:
            self._advance()
            time.sleep(0.01)
        self._buffer.forget(partitions)
        if self._flights:
            self._restart_from_lake()

    @property
    def _revoke_patience_s(self) -> float:
        """The deadline of the settings, or a third of what Kafka allows: no heartbeat goes out meanwhile."""
        kafka = self._settings.kafka
        allowed_ms = min(kafka.session_timeout_ms, kafka.max_poll_interval_ms)
        return min(self._settings.stream.revoke_deadline_s, allowed_ms / 3000)

    def _lost(self, partitions: set[Partition]) -> None:
        """Somebody else has them already: let go at once; the lake refuses what comes too late."""
        self._buffer.forget(partitions)
        self._restart_from_lake()

    def _restart_from_lake(self) -> None:
        """Forget everything in flight and read on from where the lake is."""
        kept = list(self._buffer.positions)
        self._drop_everything()
        self._assignment.read_from_lake(kept)

    def _drop_everything(self) -> None:
        self._flights.clear()
        self._buffer.forget(list(self._buffer.positions))
        self._resolver.reset()

    def _refresh_report(self) -> None:
        report = self._report
        report.alive_at = time.time()
        report.failed_commits = self._assignment.failed_commits
        report.in_flight = len(self._flights)
        report.idle = not self._flights and self._buffer.is_empty
        report.partitions = sorted(self._buffer.positions)
        report.resolves = self._owns_first_products_partition()
        report.resolved_at_snapshot = self._resolver.nothing_left_at_snapshot
        with self._store.reader() as reader:
            report.store = reader.counts()
