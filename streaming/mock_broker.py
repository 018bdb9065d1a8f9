"""librdkafka's mock cluster: a Kafka in the memory of this process, for a first look without Java."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Self

from labelstream.schemas.errors import MissingDependency

logger = logging.getLogger(__name__)

START_DEADLINE_S = 10.0


class MockCluster:
    """A mock Kafka that is used as a ``KafkaCluster`` is. Build one with :meth:`start`.

    It speaks the protocol on real sockets but keeps about 5 MB a partition, silently drops the oldest
    records, forgets everything with the process, and its consumer groups are unreliable. kafka-python
    reaches it only with ``api_version`` 2.0, and the stream needs static assignment.
    """

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        brokers = producer.list_topics(timeout=START_DEADLINE_S).brokers.values()
        self.bootstrap_servers: str = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    @classmethod
    def start(cls) -> Self:
        """Start the mock in this process.

        Raises:
            MissingDependency: confluent-kafka is not installed.
        """
        try:
            from confluent_kafka import Producer
        except ImportError:
            raise MissingDependency("confluent-kafka (or a Java runtime and KAFKA_HOME)", "cpu") from None
        logger.warning(
            "mock Kafka in memory: for a first look only, it drops old records and forgets all at the end; "
            "set KAFKA_HOME to an unpacked Apache Kafka for a real one"
        )
        return cls(Producer({"test.mock.num.brokers": 1, "log_level": 0}))

    def settings_environment(self) -> dict[str, str]:
        """The environment variables with which labelstream reaches this mock."""
        return {
            "LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "LABELSTREAM_KAFKA_API_VERSION": "2.0",
            "LABELSTREAM_KAFKA_ASSIGNMENT": "static",
        }

    def stop(self) -> None:
        """Forget the mock and all its records; may be called again."""
        self._producer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
