"""Labels and dead letters back to Kafka, at least once and before the lake's commit."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from kafka import KafkaProducer

from labelstream.schemas.errors import BrokerUnavailable
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.settings import KafkaSettings, StreamSettings
from labelstream.schemas.tables import DEAD_LETTERS, LABELS
from labelstream.streaming.commit import Commit
from labelstream.streaming.kafka_client import broker_errors
from labelstream.streaming.retry import Patience

MAX_DEAD_LETTER_BYTES = 900_000
PUBLISH_TIMEOUT_S = 120.0


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

    def publish(self, commit: Commit) -> Future[None]:
        """Send everything; the future is done when the brokers have it.

        Raises:
            BrokerUnavailable: The producer knows no broker.
        """
        with broker_errors():
            return _all_of([*self._send_labels(commit), *self._send_dead_letters(commit)])

    def close(self) -> None:
        """Flush and disconnect."""
        self._producer.close(timeout=5)

    def _send_labels(self, commit: Commit) -> list[Any]:
        topic = self._settings.labels_topic
        if not topic:
            return []
        return [
            self._producer.send(topic, key=row["label_key"].encode(), value=label_json(row))
            for row in commit.tables[LABELS.name].to_pylist()
        ]

    def _send_dead_letters(self, commit: Commit) -> list[Any]:
        topic = self._settings.dead_letters_topic
        if not topic:
            return []
        return [
            self._producer.send(
                topic,
                key=row["key"],
                value=None if row["value"] is None else row["value"][:MAX_DEAD_LETTER_BYTES],
                headers=error_headers(row),
                timestamp_ms=None if row["timestamp"] is None else round(row["timestamp"].timestamp() * 1000),
            )
            for row in commit.tables[DEAD_LETTERS.name].to_pylist()
        ]


def label_json(row: dict[str, Any]) -> bytes:
    """A row of ``labels`` as the message of the labels topic."""
    record = LabelRecord.model_construct(**(row | {"probabilities": tuple(row["probabilities"])}))
    return record.model_dump_json().encode()


def error_headers(row: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """The record's own headers, then Kafka Connect's, as its dead letter queue writes them."""
    own: Sequence[Mapping[str, Any]] = row["headers"]
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
    cut = len(row["value"] or b"") > MAX_DEAD_LETTER_BYTES
    headers = [(f"__connect.errors.{name}", str(value).encode()) for name, value in connect.items()]
    # The whole value of an oversized record is in the table.
    return [(h["name"], h["value"] or b"") for h in own] + headers + [("labelstream.value.cut", b"true")] * cut


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
                done.set_exception(BrokerUnavailable(f"a record could not be produced: {error}"))
            elif left == 0:
                done.set_result(None)

    for future in sent:
        future.add_callback(lambda _: arrived(None))
        future.add_errback(arrived)
    return done
