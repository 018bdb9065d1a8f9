"""What ``labelstream status`` tells, against a real broker and real lakes; only the models are stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from lakes import a_commit, label_rows, lake_settings
from standins import JUDGE, ThreadWriter, UniformJudge
from stream import KnownLog, Replica, stream_settings, wait_until

from labelstream.commands.status import collect, print_lag
from labelstream.schemas.drift import MOVED, population_stability_index
from labelstream.schemas.errors import BrokerUnavailable, SettingsError
from labelstream.schemas.settings import KafkaSettings, Settings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.broker_node import free_ports
from labelstream.streaming.lake import Lake
from labelstream.streaming.status import (
    DRIFT_MINIMUM,
    DRIFT_WINDOW,
    PartitionLag,
    dead_letter_reasons,
    ignored_actions,
    label_drift,
    label_versions,
    partition_lags,
)
from labelstream.streaming.topics import ensure_topics

MakeSettings = Callable[..., KafkaSettings]
PARTITIONS = 3


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(lake_settings(tmp_path)) as lake:
        yield lake


def consume(settings: Settings, records: int) -> None:
    """Run an Ingest until the lake has so many records."""
    writer = ThreadWriter(settings)
    replica = Replica(settings, writer._writer._store, UniformJudge(), writer)
    try:
        wait_until(lambda: writer.totals()["records"] >= records, what=f"{records} records")
    finally:
        replica.stop()
        writer.close()
    assert replica.error is None


def lags(settings: Settings) -> dict[tuple[str, int], tuple[int, int]]:
    """(consumed, lag) of each partition, as a reader beside the stream sees them."""
    with Lake(settings.lake, read_only=True) as lake:
        return {(one.topic, one.partition): (one.consumed, one.lag) for one in partition_lags(settings, lake)}


def shown_lag(capsys: pytest.CaptureFixture[str], lags: list[dict[str, Any]]) -> list[list[str]]:
    """The words of each row of the table that is printed, without its head."""
    print_lag(lags)
    return [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines() if line.startswith("│")]


def test_the_partitions_with_the_most_lag_are_shown_and_the_lag_of_all(capsys: pytest.CaptureFixture[str]):
    lags = [PartitionLag("events", number, 7, 100 * (number % 4)) for number in range(13)]
    rows = shown_lag(capsys, [lag._asdict() for lag in lags])
    most = [(number, 100 * rest) for rest in (3, 2, 1) for number in range(13) if number % 4 == rest] + [(0, 0)]
    assert rows == [
        *(["events", str(number), "7", str(lag)] for number, lag in most),
        ["all", "13", "partitions", str(300 * 3 + 200 * 3 + 100 * 3)],
    ]


@pytest.mark.broker
def test_lag_and_counts_follow_a_log(
    kafka: KafkaCluster, fresh_topics: MakeSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings, log = stream_settings(tmp_path, fresh_topics(kafka.bootstrap_servers)), KnownLog(1, 60)
    topics = settings.kafka.events_topic, settings.kafka.products_topic
    ensure_topics(settings.kafka, partitions=PARTITIONS)
    Lake(settings.lake).close()
    log.send_products(settings.kafka)
    log.send_events(settings.kafka)

    before = lags(settings)
    assert sorted(before) == [(topic, number) for topic in sorted(topics) for number in range(PARTITIONS)]
    assert {consumed for consumed, _ in before.values()} == {0}
    assert sum(lag for _, lag in before.values()) == sum(log.outcomes.values())

    consume(settings, sum(log.outcomes.values()))
    assert lags(settings) == {place: (lag, 0) for place, (_, lag) in before.items()}

    log.send_events(settings.kafka, last=7)
    after = lags(settings)
    assert sum(lag for (topic, _), (_, lag) in after.items() if topic == topics[0]) == 7
    assert {place: consumed for place, (consumed, _) in after.items()} == {p: lag for p, (_, lag) in before.items()}
    assert shown_lag(capsys, collect(settings)["lag"])[-1] == ["all", str(len(after)), "partitions", "7"]

    with Lake(settings.lake, read_only=True) as lake:
        versions = (JUDGE.model_version, JUDGE.prompt_version, JUDGE.scale_version)
        assert label_versions(lake) == [(*versions, len(log.pairs))]
        assert label_drift(lake) == {}
        assert ignored_actions(lake) == [("brand_filter", log.outcomes["ignored"])]
        assert sum(count for _, _, count in dead_letter_reasons(lake)) == log.outcomes["dead_lettered"] > 0


@pytest.mark.broker
def test_a_topic_that_is_not_there_and_a_broker_that_is_not_there(
    kafka: KafkaCluster, fresh_topics: MakeSettings, lake: Lake, tmp_path: Path
):
    settings = stream_settings(tmp_path, fresh_topics(kafka.bootstrap_servers))
    with pytest.raises(SettingsError, match=f"topic {settings.kafka.events_topic} does not exist"):
        partition_lags(settings, lake)
    nowhere = settings.kafka.model_copy(
        update={"bootstrap_servers": f"127.0.0.1:{free_ports(1)[0]}", "request_timeout_ms": 1000}
    )
    with pytest.raises(BrokerUnavailable, match="LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS"):
        partition_lags(settings.model_copy(update={"kafka": nowhere}), lake)


def write_labels(lake: Lake, model: str, *runs: tuple[str, int], first: int = 0) -> None:
    """Labels of one model, in the order in which they were judged: so many of one level, then of the next."""
    count = sum(number for _, number in runs)
    labels = label_rows(*range(first, first + count))
    for name, values in {
        "level": [level for level, n in runs for _ in range(n)],
        "model_version": [model] * count,
    }.items():
        column = labels.schema.get_field_index(name)
        labels = labels.set_column(column, labels.schema.field(name), pa.array(values))
    lake.commit(a_commit(lake.offsets().get(("search-events", 0), 0), count, tables={"labels": labels}))


def test_drift_compares_the_newest_labels_of_each_model_with_its_first_ones(lake: Lake):
    half = DRIFT_MINIMUM
    write_labels(lake, "moved", ("high", half), ("irrelevant", half))
    write_labels(lake, "steady", *[("high", 1), ("moderate", 1)] * half)
    write_labels(lake, "too few", ("high", half), ("irrelevant", half - 1))
    drift = label_drift(lake)
    assert set(drift) == {"moved", "steady"}
    assert drift["moved"] == pytest.approx(population_stability_index(np.array([half, 0.0]), np.array([0.0, half])))
    assert drift["moved"] > MOVED
    assert drift["steady"] == 0


def test_drift_looks_at_a_window_on_each_side_and_not_between(lake: Lake):
    write_labels(lake, "model", ("high", DRIFT_WINDOW), ("irrelevant", 2000), ("high", DRIFT_WINDOW))
    assert label_drift(lake) == {"model": 0}


def test_versions_come_busiest_first_and_an_empty_lake_tells_nothing(lake: Lake):
    readers: list[Callable[[Lake], Any]] = [label_versions, label_drift, dead_letter_reasons, ignored_actions]
    assert [len(read(lake)) for read in readers] == [0, 0, 0, 0]
    sizes = {"b": 2, "a": 2, "c": 3}
    for (model, size), end in zip(sizes.items(), accumulate(sizes.values()), strict=True):
        write_labels(lake, model, ("high", size), first=end)
    assert label_versions(lake) == [(model, "p", "s", sizes[model]) for model in ("c", "a", "b")]
