"""Labels and dead letters back to Kafka, at least once and before the lake's commit."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self

from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from labelstream.schemas.errors import BrokerUnavailable
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.settings import KafkaSettings, StreamSettings
from labelstream.schemas.tables import DEAD_LETTERS, LABELS
from labelstream.streaming.broker_errors import as_settings_error, broker_errors
from labelstream.streaming.commit import Commit
from labelstream.streaming.kafka_client import abandon, make_producer
from labelstream.streaming.retry import Patience

# Together, and with Kafka Connect's headers, less than Kafka's default of max.message.bytes, 1,048,588.
MAX_VALUE_BYTES = 900_000
MAX_KEY_BYTES = 50_000
MAX_HEADERS_BYTES = 50_000
HEADER_OVERHEAD_BYTES = 10
PUBLISH_TIMEOUT_S = 120.0
# Sending waits for nothing but a topic that the producer does not know, and the consumer loop waits with it.
UNKNOWN_TOPIC_MS = 2000
CLOSE_S = 5.0


def broker_patience(stream: StreamSettings) -> Patience:
    """How patient everybody is with a ``Publisher``."""
    return Patience("broker", PUBLISH_TIMEOUT_S, stream.give_up_s)


class Publisher:
    """Sends what a commit holds to the labels topic and the dead-letters topic.

    Args:
        settings: Topic names; a topic that is not set is left out.
        producer: An idempotent producer with ``acks=all``.
    """

    def __init__(self, settings: KafkaSettings, producer: KafkaProducer) -> None:
        self._settings = settings
        self._producer = producer

    @classmethod
    def connected(cls, settings: KafkaSettings) -> Self:
        """One with a producer of its own.

        Raises:
            BrokerUnavailable: No broker answers.
            SettingsError: Kafka refuses us.
        """
        return cls(settings, make_producer(settings, max_block_ms=UNKNOWN_TOPIC_MS))

    def publish(self, commit: Commit) -> Future[None]:
        """Send everything; the future is done when the brokers have it.

        Raises:
            BrokerUnavailable: A topic is not there, or nobody says whether it is.
        """
        with broker_errors():
            return _all_of([*self._send_labels(commit), *self._send_dead_letters(commit)])

    def close(self) -> None:
        """Send what is left, if that is done within seconds, and disconnect."""
        with suppress(KafkaTimeoutError):  # whoever ends because of Kafka must be able to say so
            self._producer.flush(timeout=CLOSE_S)
        abandon(self._producer)

    def _send_labels(self, commit: Commit) -> list[Any]:
        topic = self._settings.labels_topic
        if not topic:
            return []
        return [
            self._send(topic, key=row["label_key"].encode(), value=label_json(row))
            for row in commit.tables[LABELS.name].to_pylist()
        ]

    def _send_dead_letters(self, commit: Commit) -> list[Any]:
        topic = self._settings.dead_letters_topic
        if not topic:
            return []
        return [self._send(topic, **dead_letter(row)) for row in commit.tables[DEAD_LETTERS.name].to_pylist()]

    def _send(self, topic: str, **message: Any) -> Any:
        try:
            return self._producer.send(topic, **message)
        except KafkaTimeoutError as error:
            raise BrokerUnavailable(
                f"topic {topic} is not there, or no broker answers; create it if it was deleted, and check that the "
                "brokers of LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS are up"
            ) from error


def label_json(row: dict[str, Any]) -> bytes:
    """A row of ``labels`` as the message of the labels topic."""
    record = LabelRecord.model_construct(**(row | {"probabilities": tuple(row["probabilities"])}))
    return record.model_dump_json().encode()


def dead_letter(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``dead_letters`` as the message of the dead-letters topic.

    What is too large for a topic is cut or left out, and a header says so; the table has all of it. The record's own
    headers come first, then Kafka Connect's, as its dead letter queue writes them.
    """
    key, value = row["key"] or b"", row["value"] or b""
    own = [(header["name"], header["value"] or b"") for header in row["headers"]]
    own_bytes = sum(len(name.encode()) + len(content) + HEADER_OVERHEAD_BYTES for name, content in own)
    too_large = {
        "value.cut": len(value) > MAX_VALUE_BYTES,
        "key.left.out": len(key) > MAX_KEY_BYTES,
        "headers.left.out": own_bytes > MAX_HEADERS_BYTES,
    }
    notes = [(f"labelstream.{name}", b"true") for name, is_so in too_large.items() if is_so]
    return {
        "key": None if too_large["key.left.out"] else row["key"],
        "value": value[:MAX_VALUE_BYTES],  # never null: kafka-python refuses a record without key and value
        "headers": ([] if too_large["headers.left.out"] else own) + _connect_headers(row) + notes,
        "timestamp_ms": None if row["timestamp"] is None else round(row["timestamp"].timestamp() * 1000),
    }


def _connect_headers(row: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    connect = {
        "topic": row["topic"],
        "partition": row["partition"],
        "offset": row["offset"],
        "connector.name": "labelstream",
        "task.id": 0,
        "stage": row["stage"],
        "class.name": "labelstream.streaming.classify.Classifier",
        "exception.class.name": f"labelstream.schemas.errors.{row['error']}",
        "exception.message": row["message"],
    }
    return [(f"__connect.errors.{name}", str(value).encode()) for name, value in connect.items()]


def _all_of(sent: Sequence[Any]) -> Future[None]:
    """One future for many of kafka-python's."""
    done: Future[None] = Future()
    left, lock = len(sent), threading.Lock()
    if not left:
        done.set_result(None)

    def arrived(error: BaseException | None) -> None:
        nonlocal left
        with lock:  # from the sender's thread, or from ours for what has arrived already
            left -= 1
            if done.done():
                return
            if error is not None:
                passing = BrokerUnavailable(f"a record could not be produced: {error}")
                done.set_exception(as_settings_error(error) or passing)
            elif left == 0:
                done.set_result(None)

    for future in sent:
        future.add_callback(lambda _: arrived(None))
        future.add_errback(arrived)
    return done
