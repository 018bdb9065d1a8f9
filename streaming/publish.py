"""Produce many records quickly, in bounded memory, and know that each of them arrived."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from kafka import KafkaProducer

from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.broker_errors import broker_errors
from labelstream.streaming.kafka_client import abandon, make_producer

IN_FLIGHT_BYTES = 32 << 20
PROGRESS_EVERY = 1000


class Outgoing(NamedTuple):
    """One record to produce; a null key goes to any partition."""

    key: bytes | None
    value: bytes


def publish(
    records: Iterable[Outgoing],
    topic: str,
    settings: KafkaSettings,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Produce records and wait until all replicas in sync have every one.

    Args:
        records: Taken one by one, as fast as Kafka accepts them.
        topic: Where they go.
        settings: How to reach Kafka.
        on_progress: Called now and then with the number of records sent since the last call.

    Returns:
        How many records arrived.

    Raises:
        BrokerUnavailable: Kafka did not take a record in time; an unknown part of the records has arrived.
        SettingsError: Kafka refuses us.
    """
    producer = make_producer(settings)
    try:
        sent = _send_all(producer, topic, records, on_progress or (lambda _: None))
    except BaseException:
        abandon(producer)  # the caller hears of the error now
        raise
    producer.close()
    return sent


def _send_all(
    producer: KafkaProducer, topic: str, records: Iterable[Outgoing], on_progress: Callable[[int], None]
) -> int:
    # kafka-python's own delivery timeout does not fire while a producer waits for its id from a dead broker.
    patience_s = producer.config["delivery_timeout_ms"] / 1000
    window = _Window(IN_FLIGHT_BYTES, patience_s)
    sent = 0
    for record in records:
        with broker_errors():
            window.add(producer.send(topic, record.value, key=record.key), len(record.value))
        sent += 1
        if sent % PROGRESS_EVERY == 0:
            on_progress(PROGRESS_EVERY)
    with broker_errors():
        producer.flush(timeout=patience_s)
        window.drain(0)
    on_progress(sent % PROGRESS_EVERY)
    return sent


class _Window:
    """The records in flight. kafka-python buffers without limit, so the oldest is waited for instead."""

    def __init__(self, limit_bytes: int, patience_s: float) -> None:
        self._limit_bytes = limit_bytes
        self._patience_s = patience_s
        self._bytes = 0
        self._futures: deque[tuple[Any, int]] = deque()

    def add(self, future: Any, size: int) -> None:
        self._futures.append((future, size))
        self._bytes += size
        self.drain(self._limit_bytes)

    def drain(self, limit_bytes: int) -> None:
        """Wait for the oldest records, and raise their errors, until at most ``limit_bytes`` are in flight."""
        while self._futures and (self._bytes > limit_bytes or limit_bytes == 0):
            future, size = self._futures.popleft()
            future.get(timeout=self._patience_s)
            self._bytes -= size
