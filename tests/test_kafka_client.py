from __future__ import annotations

import ssl
import threading
from contextlib import closing
from pathlib import Path

import pytest
from conftest import MakeSettings
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from labelstream.schemas.errors import BadRecord, BrokerUnavailable, SettingsError
from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.broker_errors import as_transient, broker_errors
from labelstream.streaming.broker_node import free_ports
from labelstream.streaming.kafka_client import client_options, make_admin, make_consumer, make_producer
from labelstream.streaming.publish import Outgoing, publish
from labelstream.streaming.topics import EndOffsets, ensure_topics


def handshake(error: OSError) -> kafka_errors.KafkaConnectionError:
    """As kafka-python tells of a TLS handshake that fails."""
    told = kafka_errors.KafkaConnectionError(f"Handshake failed: {error}")
    told.__context__ = error
    return told


@pytest.mark.parametrize(
    "error",
    [
        kafka_errors.KafkaConnectionError("reset"),
        kafka_errors.KafkaTimeoutError(),
        kafka_errors.NodeNotReadyError(),
        kafka_errors.NotLeaderForPartitionError(),
        kafka_errors.NotEnoughReplicasError(),
        kafka_errors.OutOfOrderSequenceNumberError(),
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        handshake(ssl.SSLZeroReturnError(6, "closed")),
        handshake(ConnectionResetError(104, "reset")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_transient(error: Exception):
    with pytest.raises(BrokerUnavailable, match="LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS"), broker_errors():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        kafka_errors.TopicAuthorizationFailedError(),
        kafka_errors.SaslAuthenticationFailedError("who?"),
        kafka_errors.InvalidReplicationFactorError(),
        kafka_errors.KafkaConfigurationError("no"),
        ssl.SSLCertVerificationError("self-signed"),
        handshake(ssl.SSLCertVerificationError("self-signed")),
        handshake(ssl.SSLError(1, "wrong version number")),
        FileNotFoundError(2, "No such file", "ca.pem"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_never_passes_is_a_settings_error(error: Exception):
    assert as_transient(error) is None
    with pytest.raises(SettingsError, match="LABELSTREAM_KAFKA_"), broker_errors():
        raise error


@pytest.mark.parametrize("error", [BadRecord("x"), kafka_errors.CorruptRecordError(), ValueError("x")])
def test_other_errors_stay_what_they_are(error: Exception):
    with pytest.raises(type(error)) as caught, broker_errors():
        raise error
    assert caught.value is error


def test_options_carry_security_and_nothing_unset():
    settings = KafkaSettings.model_validate(
        {
            "bootstrap_servers": "a:1,b:2",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": "search",
            "sasl_password": "secret",
            "ssl_cafile": "ca.pem",
            "api_version": "2.0",
        }
    )
    options = client_options(settings)
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("search", "secret")
    assert options["ssl_cafile"] == "ca.pem"
    assert options["api_version"] == (2, 0)
    assert not {"ssl_certfile", "ssl_keyfile", "ssl_password"} & options.keys()
    assert None not in client_options(KafkaSettings()).values()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (KafkaSettings(api_version="two"), "API_VERSION"),
        (KafkaSettings(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER"), "SASL_MECHANISM"),
    ],
)
def test_options_that_cannot_work_are_named(settings: KafkaSettings, name: str):
    with pytest.raises(SettingsError, match=f"LABELSTREAM_KAFKA_{name}"):
        client_options(settings)


def test_no_broker_is_transient():
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_ports(1)[0]}", request_timeout_ms=1000)
    for make in (make_admin, make_producer, lambda options: make_consumer(options, group=True)):
        with pytest.raises(BrokerUnavailable):
            make(settings)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("kafka-io")]


@pytest.mark.broker
def test_topics_are_made_once_and_products_are_compacted(kafka: KafkaCluster, fresh_topics: MakeSettings):
    settings = fresh_topics(kafka.bootstrap_servers, dead_letters_topic=None)
    topics = {settings.events_topic, settings.products_topic, settings.labels_topic}
    assert set(ensure_topics(settings, partitions=3)) == topics
    assert ensure_topics(settings, partitions=5) == []
    with closing(make_admin(settings)) as admin:
        described = admin.describe_topics(list(topics))
        names = [settings.products_topic, settings.events_topic]
        configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    assert {len(topic["partitions"]) for topic in described} == {3}
    policies = {name: values["cleanup.policy"]["value"] for name, values in configs["topic"].items()}
    assert policies == {settings.products_topic: "compact", settings.events_topic: "delete"}


@pytest.mark.broker
@pytest.mark.parametrize("policy", [None, "delete", "compact,delete", "compact"])
def test_a_catalogue_that_is_not_compacted_is_warned_of_and_left_alone(
    kafka: KafkaCluster, fresh_topics: MakeSettings, caplog: pytest.LogCaptureFixture, policy: str | None
):
    settings = fresh_topics(kafka.bootstrap_servers)
    products = settings.products_topic
    topic = {"num_partitions": 1, "replication_factor": 1, "configs": {"cleanup.policy": policy} if policy else {}}
    with closing(make_admin(settings)) as admin:
        admin.create_topics({products: topic})
        admin.wait_for_topics([products])
        assert products not in ensure_topics(settings)
        [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] or [""]
        assert (f"topic {products} has cleanup.policy={policy or 'delete'}" in warning) == (policy != "compact")
        asked = ConfigResource(ConfigResourceType.TOPIC, products, {"cleanup.policy": None})
        found = admin.describe_configs([asked], config_filter="all")["topic"][products]["cleanup.policy"]["value"]
    assert found == (policy or "delete")


@pytest.mark.broker
def test_more_replicas_than_brokers_is_a_settings_error(kafka: KafkaCluster, fresh_topics: MakeSettings):
    with pytest.raises(SettingsError, match="InvalidReplicationFactor"):
        ensure_topics(fresh_topics(kafka.bootstrap_servers), replication=2)


@pytest.mark.broker
def test_end_offsets_count_what_was_produced(kafka: KafkaCluster, fresh_topics: MakeSettings):
    settings = fresh_topics(kafka.bootstrap_servers)
    ensure_topics(settings, partitions=2)
    with EndOffsets(settings, [settings.events_topic]) as ask:
        ends = ask()
    assert ends == {TopicPartition(settings.events_topic, number): 0 for number in (0, 1)}
    publish([Outgoing(None, b"x")] * 7, settings.events_topic, settings)
    with EndOffsets(settings, [settings.events_topic, settings.products_topic]) as ask:
        assert sum(ask().values()) == 7
    with EndOffsets(settings, ["nowhere"]) as ask, pytest.raises(SettingsError, match="topic nowhere does not exist"):
        ask()


@pytest.mark.broker
def test_a_record_of_ten_megabytes_passes(kafka: KafkaCluster, fresh_topics: MakeSettings):
    settings = fresh_topics(kafka.bootstrap_servers)
    ensure_topics(settings)
    value = bytes(10 << 20)
    publish([Outgoing(b"key", value)], settings.events_topic, settings)
    with closing(make_consumer(settings, group=True)) as consumer:
        consumer.subscribe([settings.events_topic])
        assert next(consumer).value == value


@pytest.mark.broker
@pytest.mark.usefixtures("kafka_home")
def test_passwords_are_passed_and_a_wrong_one_is_named(tmp_path: Path, fresh_topics: MakeSettings):
    KafkaCluster.start(tmp_path).stop()
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    properties = {
        "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.plaintext.plain.sasl.jaas.config": f'{module} username="search" password="right" '
        'user_search="right";',
    }
    with (tmp_path / "node-1/server.properties").open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in properties.items())
    with KafkaCluster.start(tmp_path) as cluster:
        login = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "search"}
        settings = fresh_topics(cluster.bootstrap_servers, **login, sasl_password="right")
        assert len(ensure_topics(settings)) == 4
        assert publish([Outgoing(None, b"x")], settings.events_topic, settings) == 1
        wrong = fresh_topics(cluster.bootstrap_servers, **login, sasl_password="wrong", request_timeout_ms=2000)
        for make in (make_admin, make_producer, lambda options: make_consumer(options, group=False)):
            with pytest.raises((SettingsError, BrokerUnavailable), match=r"SaslAuthenticationFailed|SASL_USERNAME"):
                make(wrong)
