"""Which partitions are ours, and at which offset we read on: always the lake's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, RebalanceInProgressError, RetriableError

from labelstream.schemas.errors import BrokerUnavailable
from labelstream.streaming.broker_errors import broker_errors
from labelstream.streaming.buffer import Partition
from labelstream.streaming.commit import OffsetRange
from labelstream.streaming.reading import refuse_if_beyond
from labelstream.streaming.retry import Endurance, RetriedCall
from labelstream.streaming.topics import partitions_of

if TYPE_CHECKING:
    from labelstream.schemas.settings import Settings
    from labelstream.streaming.flight import Services

logger = logging.getLogger(__name__)


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Follows the consumer group (or a static share) and starts each partition at the lake's offset.

    kafka-python calls a listener on its own thread while ``poll()`` waits for it, and the consumer must not
    be used from there. So new partitions are only noted, and ``settle()`` starts them between two polls.

    Args:
        settings: All settings.
        consumer: The consumer, not subscribed yet.
        replica: (index, number of replicas), for static assignment.
        services: The writer knows the lake's offsets.
        on_revoked: Called with partitions that are about to go; may take up to the revoke deadline.
        on_lost: Called with partitions that are gone already.
    """

    def __init__(
        self,
        settings: Settings,
        consumer: KafkaConsumer,
        replica: tuple[int, int],
        services: Services,
        *,
        on_revoked: Callable[[set[Partition]], None],
        on_lost: Callable[[set[Partition]], None],
    ) -> None:
        self._kafka = settings.kafka
        self._broker = Endurance(settings.stream.give_up_s)
        self._consumer = consumer
        self._replica = replica
        self._services = services
        self._on_revoked = on_revoked
        self._on_lost = on_lost
        self._unsettled: set[Partition] = set()
        self._asking: RetriedCall[dict[Partition, int]] | None = None
        self._progress: dict[TopicPartition, OffsetAndMetadata] = {}
        self._committing: dict[TopicPartition, OffsetAndMetadata] = {}
        self.failed_commits = 0

    def start(self) -> None:
        """Join the group, or take the static share.

        Raises:
            BrokerUnavailable: No broker answers.
            SettingsError: A topic does not exist, or Kafka refuses us.
        """
        topics = self._kafka.input_topics
        with broker_errors():
            partitions = [partition for topic in topics for partition in partitions_of(self._consumer, topic)]
        if self._kafka.assignment == "group":
            self._consumer.subscribe(topics, listener=self)
            return
        index, replicas = self._replica
        ours = [partition for partition in partitions if partition.partition % replicas == index]
        self._consumer.assign(ours)
        self.on_partitions_assigned(ours)

    def on_partitions_assigned(self, assigned: Iterable[Partition]) -> None:
        """Note partitions to be started; kafka-python calls this."""
        self.read_from_lake(assigned)

    def on_partitions_revoked(self, revoked: Iterable[Partition]) -> None:
        """Finish or give back what is in flight; kafka-python calls this, also on close."""
        # kafka-python 3.0.12 forgets a rebalance that it began because a topic's metadata changed, if the join
        # outlasts one poll(): the group then has an assignment that we never hear of. Asking for a rejoin
        # keeps its loop going until the join is complete. test_short_polls_survive_a_rebalance shows it.
        self._consumer._coordinator.request_rejoin()
        self._let_go(revoked, self._on_revoked)

    def on_partitions_lost(self, lost: Iterable[Partition]) -> None:
        """Give back what is in flight; kafka-python calls this."""
        self._let_go(lost, self._on_lost)

    def _let_go(self, partitions: Iterable[Partition], tell: Callable[[set[Partition]], None]) -> None:
        gone = set(partitions)
        if gone:
            tell(gone)
            self._unsettled -= gone
            self._progress = {tp: position for tp, position in self._progress.items() if tp not in gone}

    def read_from_lake(self, partitions: Iterable[Partition]) -> None:
        """Have partitions (re)started at the lake's offsets by the next ``settle()``."""
        self._unsettled |= set(partitions)
        self._asking = None  # an answer from before may be out of date

    def settle(self) -> Mapping[Partition, int]:
        """Start what has been assigned, as far as that goes without waiting.

        Returns:
            Partitions that have been sought, and the lake's offsets of them.

        Raises:
            OffsetsBeyondTopic: The topic was made anew.
            TransientError: Lake or broker have been unavailable for too long.
        """
        if not self._unsettled:
            return {}
        if self._asking is None:
            self._asking = RetriedCall(self._services.writer.offsets, self._services.writer_patience)
        if not self._asking.poll():
            return {}
        consumed = self._asking.result()
        try:
            started = self._seek(sorted(self._unsettled), consumed)
        except BrokerUnavailable as error:
            self._broker.bear(error)
            return {}
        self._broker.recovered()
        self._unsettled, self._asking = set(), None
        return started

    def _seek(self, partitions: Sequence[Partition], consumed: Mapping[Partition, int]) -> dict[Partition, int]:
        keys = [TopicPartition(*partition) for partition in partitions]
        with broker_errors():
            begins, ends = self._consumer.beginning_offsets(keys), self._consumer.end_offsets(keys)
        started = {}
        for key in keys:
            offset = consumed.get(key, begins[key])
            refuse_if_beyond(key, offset, ends[key])
            self._consumer.seek(key, max(offset, begins[key]))
            started[key] = offset
        return started

    def note_progress(self, ranges: Iterable[OffsetRange]) -> None:
        """Remember what is in the lake, for the advisory commit."""
        for moved in ranges:
            self._progress[TopicPartition(moved.topic, moved.partition)] = OffsetAndMetadata(moved.next)

    def commit_progress(self) -> None:
        """Tell Kafka, for the lag tools; the lake's offsets are what counts. One commit is on its way at a time."""
        if self._committing or not self._progress or self._kafka.assignment != "group":
            return
        self._committing, self._progress = self._progress, {}
        try:
            self._consumer.commit_async(self._committing, callback=self._committed)
        except KafkaError as error:
            self._committed(self._committing, error)

    def _committed(self, _: object, answer: object) -> None:
        sent, self._committing = self._committing, {}
        if isinstance(answer, RebalanceInProgressError | RetriableError):
            self._progress = sent | self._progress  # the group is between two states: again later, newer wins
        elif isinstance(answer, BaseException):
            self.failed_commits += 1
            logger.warning("the advisory offset commit failed: %s", answer)
