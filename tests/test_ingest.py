"""The consumer loop against a real broker and a real lake; only the models are stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError
from stages import Stage, stages
from standins import DyingJudge, ForgetfulWriter, SlowJudge, UniformJudge
from stream import KnownLog, wait_until

from labelstream.schemas.errors import ModelUnavailable, OffsetsBeyondTopic
from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming import assignment
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.kafka_client import make_producer
from labelstream.streaming.lake import Lake
from labelstream.streaming.publish import publish
from labelstream.streaming.topics import EndOffsets, ensure_topics, partitions_of

pytestmark = pytest.mark.broker

MakeSettings = Callable[..., KafkaSettings]


@pytest.fixture
def stage(kafka: KafkaCluster, fresh_topics: MakeSettings, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    with stages(kafka.bootstrap_servers, fresh_topics, tmp_path) as make:
        yield make


def test_a_log_is_labelled_once_and_counted_exactly(stage: Callable[..., Stage]) -> None:
    one, log, judge = stage(), KnownLog(1, 300), UniformJudge()
    log.send_products(one.settings.kafka)
    log.send_events(one.settings.kafka)
    replica = one.start(judge)
    one.wait_for(sum(log.outcomes.values()))
    replica.stop()
    one.check(log)
    assert replica.given_back == 0
    assert set(judge.asked.values()) == {1}


def test_events_before_their_catalogue_wait_and_are_resolved(stage: Callable[..., Stage]) -> None:
    one, log = stage(), KnownLog(2, 100)
    log.send_events(one.settings.kafka)
    replica = one.start(UniformJudge())
    wait_until(lambda: one.writer.totals()["records"] == len(log.events), what="the events are in")
    assert one.writer.totals()["waiting"] == log.outcomes["joined"]
    log.send_products(one.settings.kafka)
    one.wait_for(sum(log.outcomes.values()))
    replica.stop()
    one.check(log)


@pytest.mark.parametrize("assignment", ["group", "static"])
def test_two_replicas_share_the_work(stage: Callable[..., Stage], assignment: str) -> None:
    one, log = stage(kafka={"assignment": assignment}), KnownLog(3, 400)
    log.send_products(one.settings.kafka)
    one.start(SlowJudge(0.05), replica=(0, 2))
    one.start(SlowJudge(0.05), replica=(1, 2))
    log.send_events(one.settings.kafka)
    one.wait_for(sum(log.outcomes.values()))
    for replica in one.replicas:
        replica.stop()
    one.check(log)


def test_slow_labelling_with_joining_and_leaving_loses_nothing(stage: Callable[..., Stage]) -> None:
    """Labelling takes longer than max.poll.interval; consumers come and go while it does."""
    kafka = {"max_poll_interval_ms": 3000, "session_timeout_ms": 6000}
    one, log = stage(kafka=kafka, batches_in_flight=2), KnownLog(4, 250)
    log.send_products(one.settings.kafka)
    half = len(log.events) // 2
    log.send_events(one.settings.kafka, 0, half)
    first = one.start(SlowJudge(4.0))
    wait_until(lambda: first.ingest.report.batches >= 3, what="the first replica works")
    second = one.start(SlowJudge(4.0))
    wait_until(lambda: bool(second.ingest.report.partitions), what="the second replica has partitions")
    log.send_events(one.settings.kafka, half)
    wait_until(lambda: second.ingest.report.batches >= 1, what="the second replica works")
    first.stop()
    one.start(UniformJudge())
    one.wait_for(sum(log.outcomes.values()))
    for replica in one.replicas[1:]:
        replica.stop()
    one.check(log)
    assert [replica.ingest.report.failed_commits for replica in one.replicas] == [0, 0, 0]


def test_a_labeller_that_dies_is_asked_again(stage: Callable[..., Stage]) -> None:
    one, log = stage(), KnownLog(5, 60)
    log.send_products(one.settings.kafka)
    log.send_events(one.settings.kafka)
    one.start(DyingJudge(deaths=3))
    one.wait_for(sum(log.outcomes.values()))
    one.replicas[0].stop()
    one.check(log)


def test_a_labeller_that_stays_dead_ends_the_run_with_its_error(stage: Callable[..., Stage]) -> None:
    one, log = stage(), KnownLog(6, 20)
    log.send_products(one.settings.kafka)
    log.send_events(one.settings.kafka)
    replica = one.start(DyingJudge(deaths=10**6), give_up_s=2)
    wait_until(lambda: not replica.is_running, what="it gives up")
    assert isinstance(replica.error, ModelUnavailable)


def test_lost_answers_of_the_writer_double_nothing(stage: Callable[..., Stage]) -> None:
    one, log = stage(ForgetfulWriter), KnownLog(7, 150)
    log.send_products(one.settings.kafka)
    log.send_events(one.settings.kafka)
    one.start(UniformJudge())
    one.wait_for(sum(log.outcomes.values()))
    one.replicas[0].stop()
    one.check(log)


def test_stopping_gives_back_what_does_not_finish_and_nothing_is_lost(stage: Callable[..., Stage]) -> None:
    one, log = stage(shutdown_s=0.1), KnownLog(8, 100)
    log.send_products(one.settings.kafka)
    log.send_events(one.settings.kafka)
    judge = SlowJudge(30)
    slow = one.start(judge)
    wait_until(lambda: bool(judge.asked), what="a batch is being judged")
    slow.stop()
    assert slow.given_back > 0
    one.start(UniformJudge())
    one.wait_for(sum(log.outcomes.values()))
    one.replicas[1].stop()
    one.check(log)


def test_a_broker_that_goes_away_before_it_tells_of_partitions_is_waited_for(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter([KafkaConnectionError("ECONNREFUSED")] * 3)

    def reluctant(*arguments: Any) -> Any:
        for error in refusals:
            raise error
        return partitions_of(*arguments)

    monkeypatch.setattr(assignment, "partitions_of", reluctant)
    one, log = stage(), KnownLog(12, 20)
    log.send_products(one.settings.kafka)
    log.send_events(one.settings.kafka)
    replica = one.start(UniformJudge())
    one.wait_for(sum(log.outcomes.values()))
    assert replica.error is None
    assert next(refusals, None) is None
    one.check(log)


def test_a_topic_made_anew_is_refused(stage: Callable[..., Stage], fresh_topics: MakeSettings) -> None:
    one, log = stage(), KnownLog(9, 30)
    log.send_products(one.settings.kafka)
    log.send_events(one.settings.kafka)
    first = one.start(UniformJudge())
    one.wait_for(sum(log.outcomes.values()))
    first.stop()
    emptied = fresh_topics(one.settings.kafka.bootstrap_servers)
    ensure_topics(emptied)
    with Lake(one.settings.lake) as lake:  # as if these empty topics had been consumed before
        lake.execute(
            "UPDATE offsets SET topic = ? WHERE topic = ?", [emptied.events_topic, one.settings.kafka.events_topic]
        )
    one.settings = one.settings.model_copy(update={"kafka": emptied})
    second = one.start(UniformJudge())
    wait_until(lambda: not second.is_running, what="it refuses")
    assert isinstance(second.error, OffsetsBeyondTopic)


@pytest.mark.parametrize("in_transaction", ["events", "products"])
def test_a_topic_written_in_transactions_drains(stage: Callable[..., Stage], in_transaction: str) -> None:
    """Markers take offsets, so a partition ends behind its last record; the catalogue gate must hear of that, too."""
    one, log = stage(), KnownLog(10, 40)
    kafka = one.settings.kafka
    topics = {"products": (kafka.products_topic, log.products), "events": (kafka.events_topic, log.events)}
    topic, records = topics.pop(in_transaction)
    with closing(make_producer(kafka, transactional_id=f"shop-{topic}")) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for record in records:
            producer.send(topic, record.value, key=record.key)
        producer.commit_transaction()
    for topic, records in topics.values():
        publish(records, topic, kafka)
    one.start(UniformJudge())
    one.wait_for(sum(log.outcomes.values()))
    with EndOffsets(kafka, [kafka.events_topic, kafka.products_topic]) as ask:
        wait_until(lambda: sum(ask.lags(one.writer.offsets().result()).values()) == 0, what="no lag")
    one.replicas[0].stop()
    one.check(log)


def test_short_polls_survive_a_rebalance(stage: Callable[..., Stage]) -> None:
    """Every new topic makes the group's leader join twice; the second join must not be forgotten."""
    one = stage()
    for number in range(5):
        topics = {kind: f"{kind}-{one.settings.kafka.group}-{number}" for kind in ("events_topic", "products_topic")}
        kafka = one.settings.kafka.model_copy(update={**topics, "group": f"{one.settings.kafka.group}-{number}"})
        ensure_topics(kafka)
        one.settings = one.settings.model_copy(update={"kafka": kafka})
        replica = one.start(UniformJudge())
        wait_until(
            lambda replica=replica: len(replica.ingest.report.partitions) == 8, what=f"partitions, time {number}"
        )
        replica.stop()
