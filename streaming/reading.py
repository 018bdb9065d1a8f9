"""From Kafka into the buffer: every record, and a look at every offset that has none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError

from labelstream.schemas.errors import OffsetsBeyondTopic, UnreadableRecords
from labelstream.streaming.broker_errors import broker_errors
from labelstream.streaming.buffer import RecordBuffer
from labelstream.streaming.header_names import read_any_header_name
from labelstream.streaming.records import Record, moment_of

logger = logging.getLogger(__name__)

# A poll takes all that has been fetched, which FETCH_BYTES bounds. kafka-python 3.0.12 never comes back to a
# partition that is paused with some of its fetched records taken and some not.
EVERYTHING = 1_000_000_000

Polled = Mapping[TopicPartition, Sequence[Any]]


class Reading:
    """Polls, and fills the buffer.

    kafka-python goes on at the oldest record, without a word, where the one that it asks for is not there any more.
    So wherever reading goes on elsewhere than expected, Kafka is asked why.

    Args:
        consumer: Assigned by others.
        buffer: Knows which partitions have begun, and how far they have come.
    """

    def __init__(self, consumer: KafkaConsumer, buffer: RecordBuffer) -> None:
        read_any_header_name()
        self._consumer = consumer
        self._buffer = buffer
        self._fetches: list[Any] = []

    def poll(self, timeout_ms: int) -> Polled:
        """Everything that has been fetched; it does not come again.

        Raises:
            BrokerUnavailable: No broker answers.
            SettingsError: Kafka refuses us.
            UnreadableRecords: A disk or a producer has broken some.
        """
        try:
            with broker_errors():
                polled: Polled = self._consumer.poll(timeout_ms=timeout_ms, max_records=EVERYTHING)
        except CorruptRecordError as error:
            raise UnreadableRecords(
                f"{self._place_of_error()}{error}; see 'Records that cannot be decoded' in docs/operations.md"
            ) from error
        return polled

    def on_fetched(self, call: Callable[[object], None]) -> None:
        """Call back once for each fetch under way, from any thread.

        There is no public way to wait for records and for something else. A ``poll`` with a timeout that is short
        enough for both takes many times as long as its work: it crosses into the consumer's own thread and back.
        """
        if not self._consumer.assignment() - self._consumer.paused():
            return
        known, self._fetches = self._fetches, list(self._consumer._fetcher._fetch_futures)
        for fetch in self._fetches:
            if fetch not in known:
                fetch.add_both(call)

    def _place_of_error(self) -> str:
        fetched = self._consumer._fetcher._next_partition_records  # the error does not say it in public
        if fetched is None:
            return ""
        partition = fetched.topic_partition
        return f"{partition.topic}-{partition.partition} from offset {self._consumer.position(partition)} on: "

    def take_in(self, polled: Polled) -> None:
        """Put records into the buffer.

        Raises:
            BrokerUnavailable: Nobody could be asked about offsets that were left out.
            OffsetsBeyondTopic: The topic was made anew.
        """
        for partition, messages in polled.items():
            self._look_into(partition, messages[0].offset)
            self._buffer.add(partition, map(_record, messages))

    def note_holes(self) -> None:
        """Where the consumer has gone on without a record (transaction markers, compaction), so does the buffer.

        Raises:
            BrokerUnavailable: No broker answers.
            OffsetsBeyondTopic: The topic was made anew.
        """
        for begun in self._buffer.positions:
            partition = TopicPartition(*begun)
            if partition in self._consumer.assignment() - self._consumer.paused():
                with broker_errors():
                    position = self._consumer.position(partition)
                if position is not None:
                    self._look_into(partition, position)
                    self._buffer.reach(partition, position)

    def _look_into(self, partition: TopicPartition, found: int) -> None:
        expected = self._buffer.following(partition)
        if expected is None or found == expected:
            return
        with broker_errors():
            if found < expected:
                refuse_if_beyond(partition, expected, self._consumer.end_offsets([partition])[partition])
                return
            begin = self._consumer.beginning_offsets([partition])[partition]
        lost = min(begin, found) - expected
        if lost > 0:
            logger.error(
                "%s-%d: Kafka's retention removed %d records before they were read; reading on at %d",
                partition.topic, partition.partition, lost, found,
            )  # fmt: skip


def refuse_if_beyond(partition: TopicPartition, offset: int, end: int) -> None:
    """Check that a partition still reaches to where it was read.

    Raises:
        OffsetsBeyondTopic: It does not.
    """
    if offset > end:
        raise OffsetsBeyondTopic(
            f"{partition.topic}-{partition.partition} ends at {end}, but has been read up to {offset}: the topic was "
            "made anew. Use a new lake (LABELSTREAM_LAKE_CATALOG, LABELSTREAM_LAKE_DATA_PATH) or other topics"
        )


def _record(message: Any) -> Record:
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.key,
        message.value,
        tuple(message.headers or ()),
        moment_of(message.timestamp),
    )
