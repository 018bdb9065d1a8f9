"""Kafka clients and topics as labelstream wants them, made from the settings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from typing import Any, Self

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.codec import has_lz4, has_snappy, has_zstd
from kafka.coordinator.assignors.range import RangePartitionAssignor

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.broker_errors import broker_errors, connect

__all__ = [
    "EndOffsets",
    "abandon",
    "broker_errors",
    "client_options",
    "ensure_topics",
    "make_admin",
    "make_consumer",
    "make_producer",
    "partitions_of",
]

logger = logging.getLogger(__name__)

LARGEST_RECORD_BYTES = 16 << 20
FETCH_BYTES = 1 << 20
RECONNECT_BACKOFF_MAX_MS = 1000
ABANDON_S = 5.0


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """The options that consumer, producer and admin client share, under kafka-python's names.

    Raises:
        SettingsError: The mechanism needs code of its own, or the protocol version is not a version.
    """
    if settings.sasl_mechanism == "OAUTHBEARER":
        raise SettingsError(
            "LABELSTREAM_KAFKA_SASL_MECHANISM=OAUTHBEARER has no token provider here; use SCRAM-SHA-512"
        )
    optional = {
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.sasl_password and settings.sasl_password.get_secret_value(),
        "ssl_cafile": settings.ssl_cafile and str(settings.ssl_cafile),
        "ssl_certfile": settings.ssl_certfile and str(settings.ssl_certfile),
        "ssl_keyfile": settings.ssl_keyfile and str(settings.ssl_keyfile),
        "ssl_password": settings.ssl_password and settings.ssl_password.get_secret_value(),
        "api_version": settings.api_version and _version(settings.api_version),
    }
    return {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": "labelstream",
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": settings.request_timeout_ms,
        "bootstrap_timeout_ms": settings.request_timeout_ms,
        # The library's 30 s would leave a client asleep long after a broker is back.
        "reconnect_backoff_max_ms": RECONNECT_BACKOFF_MAX_MS,
    } | {name: value for name, value in optional.items() if value is not None}


def _version(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        raise SettingsError(f"LABELSTREAM_KAFKA_API_VERSION={text} is no version; write it like 2.0") from None


def make_consumer(settings: KafkaSettings, *, group: bool, **overrides: Any) -> KafkaConsumer:
    """A consumer that commits nothing by itself.

    Args:
        settings: How to reach Kafka.
        group: Take part in the consumer group; otherwise the caller assigns partitions.
        overrides: Options of kafka-python that win.

    Raises:
        BrokerUnavailable: No broker answers.
        SettingsError: Kafka refuses us.
    """
    options = client_options(settings) | {
        "group_id": settings.group if group else None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        # What one poll can bring, and so what may wait for a batch. A larger record comes alone (KIP-74).
        "fetch_max_bytes": FETCH_BYTES,
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": min(3000, settings.session_timeout_ms // 3),
        "max_poll_interval_ms": settings.max_poll_interval_ms,
        # Spreads each topic by itself. The sticky assignors balance totals, and may leave one replica with
        # nothing but catalogue partitions while another has all the events.
        "partition_assignment_strategy": (RangePartitionAssignor,),
    }
    return connect(KafkaConsumer, options | overrides)


def make_producer(settings: KafkaSettings, **overrides: Any) -> KafkaProducer:
    """An idempotent producer that waits for all in-sync replicas and fills large batches.

    kafka-python bounds the time that a record may wait, not the memory: the caller bounds what is in
    flight (:func:`labelstream.streaming.publish.publish` does).

    Args:
        settings: How to reach Kafka.
        overrides: Options of kafka-python that win.

    Raises:
        BrokerUnavailable: No broker answers.
        SettingsError: Kafka refuses us.
    """
    options = client_options(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": _compression(),
        "linger_ms": 20,
        "batch_size": 256 << 10,
        "max_request_size": LARGEST_RECORD_BYTES,
        "max_block_ms": settings.request_timeout_ms,
        "delivery_timeout_ms": 2 * settings.request_timeout_ms,
    }
    return connect(KafkaProducer, options | overrides)


def abandon(producer: KafkaProducer) -> None:
    """Close a producer without waiting for records that it could not deliver; their futures fail.

    Its own ``close`` waits for them even with a timeout of zero, raises, and leaves its thread running.
    """
    sender = producer._sender  # there is no public way to give up
    sender.force_close()
    sender.join(ABANDON_S)
    with suppress(kafka_errors.KafkaTimeoutError):
        producer.close(timeout=0)


def _compression() -> str | None:
    """The quickest codec whose package is installed; gzip would be slower than the network."""
    codecs = {"lz4": has_lz4, "zstd": has_zstd, "snappy": has_snappy}
    return next((name for name, available in codecs.items() if available()), None)


def make_admin(settings: KafkaSettings) -> KafkaAdminClient:
    """An admin client.

    Raises:
        BrokerUnavailable: No broker answers.
        SettingsError: Kafka refuses us.
    """
    return connect(KafkaAdminClient, client_options(settings))


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
    optional = (settings.labels_topic, settings.dead_letters_topic)
    policies = {name: "delete" for name in (settings.events_topic, *optional) if name}
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

    def lags(self, consumed: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int]:
        """How many records each partition has that are not consumed yet.

        Args:
            consumed: The next offset to consume of each (topic, partition) that has been read.

        Raises:
            BrokerUnavailable: No broker answers.
            SettingsError: A topic does not exist.
        """
        ends = self()
        unread = [partition for partition in ends if (partition.topic, partition.partition) not in consumed]
        with broker_errors():  # retention may have moved the beginning of what nobody has read
            begins = self._consumer.beginning_offsets(unread) if unread else {}
        return {
            partition: max(0, int(end) - consumed.get((partition.topic, partition.partition), begins.get(partition, 0)))
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
