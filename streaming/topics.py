"""Kafka's topics: those of ours are created, asked how far they go, and missed by name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, Self

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.broker_errors import broker_errors
from labelstream.streaming.kafka_client import make_admin, make_consumer, make_producer

logger = logging.getLogger(__name__)


def ensure_topics(settings: KafkaSettings, *, partitions: int = 4, replication: int = -1) -> list[str]:
    """Create those of our topics that are missing; existing ones are left as they are.

    A catalogue topic that is not compacted is warned of: Kafka will remove products by age, and nothing breaks until
    somebody builds a new lake from it.

    Args:
        settings: How to reach Kafka and what the topics are called.
        partitions: Of each new topic. The mock cluster makes four, whatever is asked.
        replication: Copies of each partition; -1 for the broker's default.

    Returns:
        Names of the topics that were missing.

    Raises:
        BrokerUnavailable: No broker answers.
        SettingsError: Kafka refuses, for want of rights or of brokers.
    """
    policies = dict.fromkeys((settings.events_topic, *settings.output_topics), "delete")
    policies[settings.products_topic] = "compact"
    with closing(make_admin(settings)) as admin, broker_errors():
        existing = set(admin.list_topics())
        missing = {
            name: {
                "num_partitions": partitions,
                "replication_factor": replication,
                "configs": {"cleanup.policy": policy},
            }
            for name, policy in policies.items()
            if name not in existing
        }
        if settings.api_version is not None:
            _touch(settings, missing)
        else:
            if missing:
                _create(admin, missing)
            if settings.products_topic in existing:
                _warn_unless_compacted(admin, settings.products_topic)
    return list(missing)


def _warn_unless_compacted(admin: KafkaAdminClient, topic: str) -> None:
    name = "cleanup.policy"
    asked = ConfigResource(ConfigResourceType.TOPIC, topic, {name: None})
    # All, not only what was set for this topic: the brokers' default may be either. Without the right to see it,
    # the answer is empty.
    policy = admin.describe_configs([asked], config_filter="all")["topic"].get(topic, {}).get(name, {}).get("value")
    if policy not in (None, "compact"):
        logger.warning(
            "topic %s has %s=%s: Kafka removes products by age, and a new lake will lack them; compact it with "
            "kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config %s=compact",
            topic, name, policy, topic, name,
        )  # fmt: skip


def _create(admin: KafkaAdminClient, topics: dict[str, dict[str, Any]]) -> None:
    answer = admin.create_topics(topics, raise_errors=False)
    for topic in answer["topics"]:
        error = kafka_errors.for_code(topic["error_code"])
        # Somebody else may have been quicker; that is as good.
        if error not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
            raise error(f"topic {topic['name']}: {topic['error_message']}")
    admin.wait_for_topics(list(topics))


def _touch(settings: KafkaSettings, topics: Iterable[str]) -> None:
    """The mock cluster has no controller to ask; it makes a topic when a producer wants to know about it."""
    with closing(make_producer(settings, allow_auto_create_topics=True)) as producer:
        for topic in topics:
            producer.partitions_for(topic)


class EndOffsets:
    """Asks how far partitions go, again and again, on one connection; use as a context manager.

    Args:
        settings: How to reach Kafka.
        topics: Must exist.
    """

    def __init__(self, settings: KafkaSettings, topics: Iterable[str]) -> None:
        self._consumer = make_consumer(settings, group=False)
        self._topics = tuple(topics)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def __call__(self) -> dict[TopicPartition, int]:
        """The offset that each partition's next record will get.

        Raises:
            BrokerUnavailable: No broker answers.
            SettingsError: A topic does not exist.
        """
        with broker_errors():
            partitions = [partition for topic in self._topics for partition in partitions_of(self._consumer, topic)]
            return dict(self._consumer.end_offsets(partitions))

    def check(self, topics: Iterable[str]) -> None:
        """See that other topics are there, on the same connection.

        Raises:
            BrokerUnavailable: No broker answers.
            SettingsError: One of them does not exist.
        """
        with broker_errors():
            for topic in topics:
                partitions_of(self._consumer, topic)

    def lags(self, consumed: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int]:
        """How many records each partition has that are not consumed yet.

        Args:
            consumed: The next offset to consume of each (topic, partition) that has been read.

        Raises:
            BrokerUnavailable: No broker answers.
            SettingsError: A topic does not exist.
        """
        ends = self()
        unread = [partition for partition in ends if partition not in consumed]
        with broker_errors():  # retention may have moved the beginning of what nobody has read
            begins = self._consumer.beginning_offsets(unread) if unread else {}
        return {
            partition: max(0, int(end) - consumed.get(partition, begins.get(partition, 0)))
            for partition, end in ends.items()
        }


def partitions_of(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """All partitions of a topic, in order.

    Raises:
        SettingsError: The topic does not exist.
    """
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise SettingsError(f"topic {topic} does not exist; create it or correct the LABELSTREAM_KAFKA_ topic settings")
    return [TopicPartition(topic, number) for number in sorted(numbers)]
