from __future__ import annotations

from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from conftest import MakeSettings
from kafka import errors as kafka_errors
from kafka.future import Future as KafkaFuture
from lakes import Bench, all_settings, pair, product_record, record
from patience import TIMEOUT
from standins import uniform

from labelstream.actors.application import Application
from labelstream.schemas.errors import BrokerUnavailable, SettingsError
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming import outputs
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.commit import Commit
from labelstream.streaming.kafka_client import make_admin, make_producer
from labelstream.streaming.outputs import (
    HEADER_OVERHEAD_BYTES,
    MAX_HEADERS_BYTES,
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    Publisher,
    dead_letter,
    label_json,
)
from labelstream.streaming.topics import ensure_topics


class RecordingProducer:
    """Keeps what is sent; its futures are done when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.futures: list[KafkaFuture] = []

    def send(self, topic: str, **message: Any) -> KafkaFuture:
        self.sent.append((topic, message))
        self.futures.append(KafkaFuture())
        return self.futures[-1]


@pytest.fixture
def commit(tmp_path: Path) -> Commit:
    big = record(2, b"x" * 2_000_000, key=b"k")
    with Bench(tmp_path) as bench:
        return bench.finish(
            bench.prepare(product_record(0, "p"), pair(0, "Sofa", "p"), record(1, b"\xff", key=b"k"), big)
        )


def publish(commit: Commit, **topics: Any) -> tuple[RecordingProducer, Future[None]]:
    producer = RecordingProducer()
    return producer, Publisher(KafkaSettings(**topics), producer).publish(commit)


def test_labels_and_dead_letters_go_to_their_topics(commit: Commit):
    producer, _ = publish(commit)
    assert [topic for topic, _ in producer.sent] == ["relevance-labels", *["labelstream-dead-letters"] * 2]
    label = producer.sent[0][1]
    assert label["key"] == LabelRecord.model_validate_json(label["value"]).label_key.encode()


def test_a_dead_letter_has_its_own_key_value_and_headers_and_kafka_connects(commit: Commit):
    [_, (_, letter), _] = publish(commit)[0].sent
    assert (letter["key"], letter["value"]) == (b"k", b"\xff")
    headers = dict(letter["headers"])
    assert headers["h"] == b"\xff"
    assert headers["__connect.errors.topic"] == b"search-events"
    assert headers["__connect.errors.partition"] == b"0"
    assert headers["__connect.errors.offset"] == b"1"
    assert headers["__connect.errors.connector.name"] == b"labelstream"
    assert headers["__connect.errors.stage"] == b"read"
    assert headers["__connect.errors.exception.class.name"] == b"labelstream.schemas.errors.BadRecord"
    assert b"Invalid JSON" in headers["__connect.errors.exception.message"]
    assert "labelstream.value.cut" not in headers


def test_a_value_that_is_too_large_is_cut_and_says_so(commit: Commit):
    [*_, (_, letter)] = publish(commit)[0].sent
    assert letter["value"] == b"x" * MAX_VALUE_BYTES
    assert dict(letter["headers"])["labelstream.value.cut"] == b"true"
    [_, row] = commit.tables["dead_letters"].to_pylist()
    assert len(row["value"]) == 2_000_000


def test_headers_stand_in_their_order_and_may_repeat(commit: Commit):
    row = commit.tables["dead_letters"].to_pylist()[0]
    own = [{"name": "a", "value": b"1"}, {"name": "a", "value": None}]
    assert dead_letter(row | {"headers": own})["headers"][:2] == [("a", b"1"), ("a", b"")]


def test_a_key_and_headers_that_are_too_large_are_left_out_and_it_says_so(commit: Commit):
    row = commit.tables["dead_letters"].to_pylist()[0]
    large = {"key": b"k" * (MAX_KEY_BYTES + 1), "headers": [{"name": "a", "value": b"x" * MAX_HEADERS_BYTES}]}
    letter = dead_letter(row | large)
    headers = dict(letter["headers"])
    assert (letter["key"], letter["value"]) == (None, b"\xff")
    assert "a" not in headers
    assert headers["labelstream.key.left.out"] == headers["labelstream.headers.left.out"] == b"true"
    assert headers["__connect.errors.offset"] == b"1"


@pytest.mark.parametrize("key", [b"k", None])
def test_a_null_value_becomes_an_empty_one(commit: Commit, key: bytes | None):
    row = commit.tables["dead_letters"].to_pylist()[0]
    letter = dead_letter(row | {"key": key, "value": None})
    assert (letter["key"], letter["value"]) == (key, b"")


@pytest.mark.broker
def test_the_largest_dead_letter_fits_into_a_topic_of_kafkas_defaults(
    commit: Commit, kafka: KafkaCluster, fresh_topics: MakeSettings
):
    settings = fresh_topics(kafka.bootstrap_servers, labels_topic=None)
    topic = {"num_partitions": 1, "replication_factor": 1, "configs": {"max.message.bytes": "1048588"}}
    with closing(make_admin(settings)) as admin:
        admin.create_topics({settings.dead_letters_topic: topic})
        admin.wait_for_topics([settings.dead_letters_topic])
    headers = [{"name": "a" * 10, "value": None}] * (MAX_HEADERS_BYTES // (10 + HEADER_OVERHEAD_BYTES))
    large = {"key": bytes(MAX_KEY_BYTES), "value": bytes(10_000_000), "headers": headers, "message": "😀" * 1000}
    dead = commit.tables["dead_letters"]
    letters = pa.Table.from_pylist([row | large for row in dead.to_pylist()], schema=dead.schema)
    letters_only = replace(commit, tables=commit.tables | {"dead_letters": letters})
    with closing(make_producer(settings, compression_type=None)) as producer:
        Publisher(settings, producer).publish(letters_only).result(TIMEOUT)


@pytest.mark.parametrize("empty", ["", None])
def test_a_topic_that_is_not_set_is_left_out(commit: Commit, empty: str | None):
    producer, done = publish(commit, labels_topic=empty, dead_letters_topic=empty)
    assert producer.sent == []
    assert done.result(timeout=0) is None


def test_it_is_done_when_the_brokers_have_all(commit: Commit):
    producer, done = publish(commit)
    for future in producer.futures:
        assert not done.done()
        future.success(None)
    assert done.result(timeout=0) is None


def test_one_record_that_cannot_be_sent_fails_all(commit: Commit):
    producer, done = publish(commit)
    producer.futures[1].failure(RuntimeError("gone"))
    for future in (producer.futures[0], producer.futures[2]):
        future.success(None)
    with pytest.raises(BrokerUnavailable, match="gone"):
        done.result(timeout=0)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (kafka_errors.TopicAuthorizationFailedError("relevance-labels"), "relevance-labels.*rights"),
        (kafka_errors.MessageSizeTooLargeError("too large"), "max.message.bytes"),
        (kafka_errors.RecordListTooLargeError("too large"), "max.message.bytes"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_kafka_will_never_take_is_no_absent_broker(commit: Commit, error: Exception, remedy: str):
    producer, done = publish(commit)
    producer.futures[0].failure(error)
    with pytest.raises(SettingsError, match=remedy):
        done.result(timeout=0)


@pytest.mark.broker
@pytest.mark.parametrize("kind", ["labels", "dead_letters"])
def test_a_topic_that_was_deleted_is_named(commit: Commit, kafka: KafkaCluster, fresh_topics: MakeSettings, kind: str):
    settings = fresh_topics(kafka.bootstrap_servers)
    ensure_topics(settings.model_copy(update={f"{kind}_topic": None}))
    with closing(Publisher.connected(settings)) as publisher, pytest.raises(BrokerUnavailable, match=f"topic {kind}-"):
        publisher.publish(commit)


@pytest.mark.broker
def test_closing_gives_up_what_kafka_does_not_take(
    commit: Commit, kafka_home: Path, fresh_topics: MakeSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outputs, "CLOSE_S", 0.1)
    with KafkaCluster.start(home=kafka_home) as cluster:
        settings = fresh_topics(cluster.bootstrap_servers)
        ensure_topics(settings)
        publisher = Publisher.connected(settings)
        publisher.publish(commit).result(TIMEOUT)
        cluster.kill(1)
        done = publisher.publish(commit)
        publisher.close()
    assert isinstance(done.exception(timeout=TIMEOUT), BrokerUnavailable)


@pytest.mark.broker
@pytest.mark.parametrize("missing", ["labels_topic", "dead_letters_topic"])
def test_an_output_topic_that_is_not_there_is_found_before_anything_is_started(
    kafka: KafkaCluster, fresh_topics: MakeSettings, tmp_path: Path, missing: str
):
    there = fresh_topics(kafka.bootstrap_servers)
    ensure_topics(there.model_copy(update={missing: None}))
    with (
        pytest.raises(SettingsError, match=f"{getattr(there, missing)} does not exist"),
        Application(all_settings(tmp_path, kafka=there)),
    ):
        pass
    assert not ray.is_initialized()


def test_a_label_is_the_row_of_the_table(tmp_path: Path):
    with Bench(tmp_path) as bench:
        batch = bench.prepare(product_record(0, "p"), pair(0, "Sofa", "p"))
        commit = bench.builder.finish(batch, uniform(1), np.array([0.5]), "encoder")
    [row] = commit.tables["labels"].to_pylist()
    label = LabelRecord.model_validate_json(label_json(row))
    assert label.model_dump() == row | {"probabilities": tuple(row["probabilities"])}
