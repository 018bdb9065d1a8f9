from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka.future import Future as KafkaFuture
from lakes import Bench, pair, product_record, record
from standins import uniform

from labelstream.schemas.errors import BrokerUnavailable
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.commit import Commit
from labelstream.streaming.outputs import MAX_DEAD_LETTER_BYTES, Publisher, error_headers, label_json


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
    assert letter["value"] == b"x" * MAX_DEAD_LETTER_BYTES
    assert dict(letter["headers"])["labelstream.value.cut"] == b"true"
    [_, row] = commit.tables["dead_letters"].to_pylist()
    assert len(row["value"]) == 2_000_000


def test_headers_stand_in_their_order_and_may_repeat(commit: Commit):
    row = commit.tables["dead_letters"].to_pylist()[0]
    own = [{"name": "a", "value": b"1"}, {"name": "a", "value": None}]
    assert error_headers(row | {"headers": own})[:2] == [("a", b"1"), ("a", b"")]


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


def test_a_label_is_the_row_of_the_table(tmp_path: Path):
    with Bench(tmp_path) as bench:
        batch = bench.prepare(product_record(0, "p"), pair(0, "Sofa", "p"))
        commit = bench.builder.finish(batch, uniform(1), np.array([0.5]), "encoder")
    [row] = commit.tables["labels"].to_pylist()
    label = LabelRecord.model_validate_json(label_json(row))
    assert label.model_dump() == row | {"probabilities": tuple(row["probabilities"])}
