"""Kafka clients as labelstream wants them, made from the settings."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors
from kafka.codec import has_lz4, has_snappy, has_zstd
from kafka.coordinator.assignors.range import RangePartitionAssignor

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.broker_errors import connect

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
