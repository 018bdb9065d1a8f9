"""Turns of the consumer loop, one by one and without a broker."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from lakes import EVENTS, PRODUCT_TOPIC, all_settings, pair
from standins import UniformJudge, done, services

from labelstream.schemas.settings import KafkaSettings, StreamSettings
from labelstream.streaming import ingest as ingest_module
from labelstream.streaming.commit import Commit, Receipt
from labelstream.streaming.ingest import Ingest
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.waiting_rows import Resolvable


class IdleConsumer:
    """Owns the first partition of the catalogue, and has nothing to read."""

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(PRODUCT_TOPIC, 0)}

    def paused(self) -> set[TopicPartition]:
        return self.assignment()

    def poll(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        return {}


class CountingWriter:
    """Takes every commit, and counts how often it is asked for waiting events."""

    def __init__(self) -> None:
        self.asked = 0

    def commit(self, _: Commit) -> Future[Receipt]:
        return done(Receipt(snapshot=1, repeated=False, duplicates=0))

    def resolvable(self, _: int) -> Future[Resolvable]:
        self.asked += 1
        return done(Resolvable(1, [], 0))


def test_waiting_events_get_their_turn_beside_a_backlog(tmp_path: Path):
    stream = StreamSettings(batch_records=1, batches_in_flight=1, catalogue_first_s=0)
    settings = all_settings(tmp_path, stream=stream, kafka=KafkaSettings(assignment="static"))
    writer = CountingWriter()
    with LocalStore(settings.store.path, settings.store.max_bytes) as store:
        ingest = Ingest(settings, IdleConsumer(), store, services(UniformJudge(), writer))
        ingest._buffer.begin((EVENTS, 0), 0)
        ingest._buffer.add((EVENTS, 0), [pair(offset, "sofa", "unknown") for offset in range(20)])
        for _ in range(10):
            ingest.step()
        assert not ingest._buffer.is_empty
    assert writer.asked


class SlowWriter(CountingWriter):
    """Its answer comes a moment later, from another thread."""

    def commit(self, _: Commit) -> Future[Receipt]:
        answer: Future[Receipt] = Future()
        threading.Timer(0.2, lambda: answer.set_result(Receipt(snapshot=1, repeated=False, duplicates=0))).start()
        return answer


def test_a_turn_that_waits_ends_with_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ingest_module, "BUSY_WAIT_S", 3600)
    stream = StreamSettings(batch_records=1, batches_in_flight=1, catalogue_first_s=0)
    settings = all_settings(tmp_path, stream=stream, kafka=KafkaSettings(assignment="static"))
    with LocalStore(settings.store.path, settings.store.max_bytes) as store:
        ingest = Ingest(settings, IdleConsumer(), store, services(UniformJudge(), SlowWriter()))
        ingest._buffer.begin((EVENTS, 0), 0)
        ingest._buffer.add((EVENTS, 0), [pair(offset, "sofa", "unknown") for offset in range(3)])
        while ingest.report.batches < 3:
            ingest.step()
