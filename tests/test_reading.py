"""What the consumer loop makes of a topic that changes under it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeSettings
from kafka.record.default_records import DefaultRecordBatch
from stages import Stage, stages
from standins import UniformJudge, uniform
from stream import KnownLog, wait_until

from labelstream.schemas.errors import OffsetsBeyondTopic, UnreadableRecords
from labelstream.schemas.judgements import Judgements
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.kafka_client import make_admin, make_producer
from labelstream.streaming.lake import Lake
from labelstream.streaming.publish import Outgoing, publish
from labelstream.streaming.topics import EndOffsets, ensure_topics

pytestmark = pytest.mark.broker


@pytest.fixture
def stage(kafka: KafkaCluster, fresh_topics: MakeSettings, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    with stages(kafka.bootstrap_servers, fresh_topics, tmp_path) as make:
        yield make


class HeldJudge(UniformJudge):
    """Answers nobody until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[tuple[Future[Judgements], int]] = []

    def judge(self, *pairs: Any) -> Future[Judgements]:
        super().judge(*pairs)
        self._held.append((Future(), len(pairs[0])))
        return self._held[-1][0]

    def let_go(self) -> None:
        for future, pairs in self._held:
            future.set_result(uniform(pairs))


def test_retention_that_overtakes_a_running_consumer_is_told_with_the_number(
    stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    one, log, judge = stage(batch_records=2, batches_in_flight=1), KnownLog(20, 1), HeldJudge()
    kafka = one.settings.kafka
    log.send_products(kafka)
    first = Outgoing(b"k", b'{"query": "sofa", "product_id": "p1"}')
    large = Outgoing(b"k", random.Random(20).randbytes(200_000))  # no JSON, and more than one fetch takes
    publish([first, *[large] * 59], kafka.events_topic, kafka)
    replica = one.start(judge)
    wait_until(lambda: bool(judge.asked), what="the first event is being judged")
    with EndOffsets(kafka, [kafka.events_topic]) as ask, closing(make_admin(kafka)) as admin:
        [partition] = [partition for partition, end in ask().items() if end]
        admin.delete_records({partition: 55})
    judge.let_go()
    wait_until(lambda: one.writer.offsets().result().get(tuple(partition)) == 60, what="the rest is read")
    replica.stop()
    [lost] = re.findall(r"retention removed (\d+) records before they were read; reading on at 55", caplog.text)
    events = one.writer.totals()["records"] - len(log.products)
    assert events + int(lost) == 60
    assert int(lost) > 0


@pytest.mark.parametrize("grown", [0, 3])
def test_a_topic_made_anew_under_a_running_consumer_is_refused(stage: Callable[..., Stage], grown: int) -> None:
    one, log = stage(kafka={"assignment": "static"}), KnownLog(21, 30)
    kafka = one.settings.kafka
    log.send_products(kafka)
    log.send_events(kafka)
    replica = one.start(UniformJudge())
    one.wait_for(sum(log.outcomes.values()))
    with closing(make_admin(kafka)) as admin:
        admin.delete_topics([kafka.events_topic])
        wait_until(lambda: kafka.events_topic not in admin.list_topics(), what="the topic is gone")
    ensure_topics(kafka)
    log.send_events(kafka, 0, grown)
    wait_until(lambda: not replica.is_running, what="it refuses")
    assert isinstance(replica.error, OffsetsBeyondTopic)


class Latin1(str):
    """What a producer that knows nothing of UTF-8 sends."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return super().encode("latin-1")


def test_a_header_name_that_is_not_utf8_is_read_with_escapes(stage: Callable[..., Stage]) -> None:
    one, log = stage(), KnownLog(22, 0)
    kafka = one.settings.kafka
    log.send_products(kafka)
    pairs = [b'{"query": "sofa", "product_id": "p1"}', b'{"query": "sofa", "product_id": "p2"}']
    with closing(make_producer(kafka, linger_ms=1000)) as producer:  # one batch
        for value in (pairs[0], b"no json", pairs[1]):
            producer.send(kafka.events_topic, value, headers=[(Latin1("größe"), b"x"), ("ok", b"y")], partition=0)
    one.start(UniformJudge())
    one.wait_for(len(log.products) + 3)
    one.replicas[0].stop()
    totals = one.writer.totals()
    assert (totals["labelled"], totals["dead_lettered"]) == (2, 1)
    with Lake(one.settings.lake, read_only=True) as lake:
        [(headers,)] = lake.query("SELECT headers FROM dead_letters")
    assert headers == [{"name": "gr\\xf6\\xdfe", "value": b"x"}, {"name": "ok", "value": b"y"}]


def test_records_that_cannot_be_decoded_end_the_run_with_their_place(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, log = stage(), KnownLog(23, 1)
    log.send_products(one.settings.kafka)
    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", lambda _: False)
    replica = one.start(UniformJudge())
    wait_until(lambda: not replica.is_running, what="it gives up")
    assert isinstance(replica.error, UnreadableRecords)
    assert re.match(rf"{one.settings.kafka.products_topic}-\d from offset 0 on: .*crc", str(replica.error))
