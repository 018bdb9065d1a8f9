"""The metrics of stream, lake, models and registry: what is told, where it comes from, and how it is served."""

from __future__ import annotations

import math
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakes import a_commit, label_rows, lake_settings
from patience import TIMEOUT
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from registries import origin
from standins import ThreadWriter, UniformJudge
from stream import KnownLog, Replica, stream_settings, wait_until

from labelstream import __version__
from labelstream.actors.application import Progress
from labelstream.actors.busy_meter import BusyMeter, WorkReport
from labelstream.actors.label_keeper import KeeperReport
from labelstream.actors.labeller_scaling import LabellerCount
from labelstream.actors.learning_watch import Learning, learning_watch, read_learning, read_standings
from labelstream.actors.metric_list import HTTP_METRICS, METRICS
from labelstream.actors.metrics import Observed, StreamMetrics, metrics_text
from labelstream.actors.metrics_server import metrics_server
from labelstream.actors.work_reports import work_reports
from labelstream.actors.writer import LakeStatus
from labelstream.schemas.errors import LakeUnavailable, SettingsError
from labelstream.schemas.settings import KafkaSettings, LakeSettings, Settings
from labelstream.schemas.tables import LABELS, OUTCOMES
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.broker_node import free_ports
from labelstream.streaming.durations import BOUNDS, Durations
from labelstream.streaming.ingest import IngestReport
from labelstream.streaming.lake import Lake
from labelstream.streaming.status import DRIFT_MINIMUM, label_drift
from labelstream.streaming.topics import ensure_topics
from labelstream.training.registry import Registry

TOTALS = {outcome: 10 * number for number, outcome in enumerate(OUTCOMES, 1)} | {"records": 280}
MakeSettings = Callable[..., KafkaSettings]


def parsed(text: str) -> dict[str, Family]:
    """Families by name; a name that comes twice is an error."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


def series(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by the name of the sample and the values of its labels, sorted by label."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in parsed(text).values():
        for sample in family.samples:
            key = tuple(value for _, value in sorted(sample.labels.items()))
            assert key not in found.setdefault(sample.name, {})
            found[sample.name][key] = sample.value
    return found


def a_report(replica: int, *seconds: float) -> IngestReport:
    durations = Durations()
    for one in seconds:
        durations.add(one)
    store = {"products": 5, "queries": 6, "labels": 7}
    return IngestReport(replica, batches=len(seconds), batch_seconds=durations, pairs=9, in_flight=2, store=store)


def full_observation(tmp_path: Path) -> Observed:
    """Something of everything; the registry is a real one."""
    registry = Registry(tmp_path)
    first = add(registry, "one", passed=True)
    registry.promote("ranker", first, expected=None, reason="passed")
    add(registry, "two", passed=False)
    standings = read_standings(registry)
    progress = Progress(LakeStatus(4, {}, TOTALS), [a_report(0, 0.3), a_report(1, 0.2, 400)], lag=11, restarts=3)
    work = {"labeller-0": WorkReport(2, 100, 1, 0.5, 1000.0), "cross-encoder-1": WorkReport(3, 50, 0, 0.25, 2000.0)}
    learning, keeper, labellers = Learning({"m": 0.5}, standings), KeeperReport(8, 2), LabellerCount(2, (0,))
    return Observed(True, progress, work, {"labels": 3}, learning, keeper, labellers)


def add(registry: Registry, content: str, **metrics: Any) -> str:
    with registry.stage("ranker") as folder:
        (folder / "model.json").write_text(content)
        return registry.add("ranker", folder, origin=origin(), metrics=metrics)


def test_every_metric_of_the_list_has_a_value_and_no_other(tmp_path: Path):
    families = parsed(metrics_text(full_observation(tmp_path)))
    samples = {sample.name: set(sample.labels) - {"le"} for f in families.values() for sample in f.samples}
    behind = [metric for metric in METRICS if metric not in HTTP_METRICS]
    assert samples == {name: set(metric.labels) for metric in behind for name in metric.samples}
    for metric in behind:
        family = families[metric.name.removesuffix("_total")] if metric.kind == "counter" else families[metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)


def test_the_list_keeps_to_the_conventions():
    for metric in METRICS:
        assert metric.name.startswith("labelstream_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
        assert "|" not in metric.help
        assert not set(metric.labels) & {"le", "job", "instance"}
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_values_are_those_that_were_seen(tmp_path: Path):
    found = series(metrics_text(full_observation(tmp_path)))
    assert found["labelstream_ready"] == {(): 1}
    assert found["labelstream_lag_records"] == {(): 11}
    assert found["labelstream_actor_restarts_total"] == {(): 3}
    assert (found["labelstream_labellers_wanted"], found["labelstream_labellers_ready"]) == ({(): 2}, {(): 1})
    assert found["labelstream_waiting_events"] == {(): TOTALS["waiting"]}
    assert found["labelstream_kept_labels_total"] == {(): 8}
    assert found["labelstream_lost_labels_total"] == {(): 2}
    assert found["labelstream_records_total"] == {(name,): TOTALS[name] for name in OUTCOMES if name != "waiting"}
    assert found["labelstream_batches_total"] == {("0",): 1, ("1",): 2}
    assert found["labelstream_store_entries"][("labels", "endpoint")] == 3
    assert found["labelstream_store_entries"][("products", "1")] == 5
    assert found["labelstream_model_pairs_total"] == {("labeller", "0"): 100, ("cross-encoder", "1"): 50}
    assert found["labelstream_model_busy_seconds_total"] == {("labeller", "0"): 0.5, ("cross-encoder", "1"): 0.25}
    assert found["labelstream_model_start_timestamp_seconds"][("labeller", "0")] == 1000
    assert found["labelstream_label_drift_psi"] == {("m",): 0.5}
    assert list(found["labelstream_champion_info"].values()) == [1]
    assert found["labelstream_retrain_passed"] == {("ranker",): 0}
    assert found["labelstream_gate_refused_versions"] == {("ranker",): 1}


def test_before_anything_is_known_it_is_not_ready():
    found = series(metrics_text(Observed(ready=False)))
    assert found == {"labelstream_build_info": {(__version__,): 1}, "labelstream_ready": {(): 0}}


def test_what_does_not_answer_is_left_out():
    found = series(metrics_text(Observed(ready=False, progress=Progress(None, [a_report(1, 0.1)], None, 0))))
    assert not {"labelstream_lag_records", "labelstream_records_total", "labelstream_waiting_events"} & found.keys()
    assert found["labelstream_pairs_total"] == {("1",): 9}


@given(st.text())
def test_any_label_value_is_escaped(version: str):
    found = series(metrics_text(Observed(ready=True, learning=Learning({version: 0.25}))))
    assert list(found["labelstream_label_drift_psi"].values()) == [0.25]


@given(st.lists(st.floats(0, 1000)))
def test_batch_seconds_are_a_histogram(seconds: list[float]):
    text = metrics_text(Observed(ready=True, progress=Progress(reports=[a_report(0, *seconds)])))
    found = series(text)
    buckets = {float(bound): count for (bound, _), count in found["labelstream_batch_seconds_bucket"].items()}
    assert sorted(buckets) == [*BOUNDS, math.inf]
    assert buckets == {bound: sum(one <= bound for one in seconds) for bound in buckets}
    assert found["labelstream_batch_seconds_count"] == {("0",): len(seconds)}
    assert found["labelstream_batch_seconds_sum"][("0",)] == pytest.approx(sum(seconds))


@pytest.mark.broker
def test_a_real_stream_reports_its_batches(kafka: KafkaCluster, fresh_topics: MakeSettings, tmp_path: Path):
    settings, log = stream_settings(tmp_path, fresh_topics(kafka.bootstrap_servers)), KnownLog(1, 20)
    ensure_topics(settings.kafka, partitions=1)
    log.send_products(settings.kafka)
    log.send_events(settings.kafka)
    writer = ThreadWriter(settings)
    replica = Replica(settings, writer._writer._store, UniformJudge(), writer)
    try:
        wait_until(lambda: writer.totals()["records"] >= sum(log.outcomes.values()), what="all records")
        wait_until(lambda: replica.ingest.report.idle, what="an idle stream")
        status = LakeStatus(1, {}, writer.totals())
        found = series(metrics_text(Observed(True, Progress(status, [replica.ingest.report], 0))))
    finally:
        replica.stop()
        writer.close()
    consumed = sum(found["labelstream_records_total"].values()) + found["labelstream_waiting_events"][()]
    assert consumed == sum(log.outcomes.values())
    batches = found["labelstream_batches_total"][("0",)]
    assert batches >= 1
    assert found["labelstream_batch_seconds_count"] == {("0",): batches}
    assert found["labelstream_batch_seconds_sum"][("0",)] > 0
    assert found["labelstream_store_entries"][("products", "0")] == log.outcomes["products"]


def test_drift_is_what_status_computes(tmp_path: Path):
    settings = lake_settings(tmp_path)
    with Lake(settings) as lake:
        lake.commit(a_commit(0, 2 * DRIFT_MINIMUM, tables={LABELS.name: label_rows(*range(2 * DRIFT_MINIMUM))}))
        expected = label_drift(lake)
    assert expected
    assert read_learning(settings, Registry(tmp_path / "registry")) == Learning(expected, ())


def test_refusals_are_counted_from_the_last_promotion(tmp_path: Path):
    registry = Registry(tmp_path)
    add(registry, "one", passed=False)
    (before,) = read_standings(registry)
    assert (before.champion, before.passed, before.refused) == (None, False, 1)
    second = add(registry, "two", passed=True)
    registry.promote("ranker", second, expected=None, reason="passed")
    (after,) = read_standings(registry)
    assert (after.champion, after.passed, after.refused) == (second, True, 0)
    add(registry, "by hand")
    assert read_standings(registry) == (after,)


def test_the_watch_forgets_what_does_not_answer_and_goes_on():
    answers: list[Learning | Exception] = [Learning({"m": 0.5}), LakeUnavailable("away"), Learning({"m": 0.25})]
    asked, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def read() -> Learning:
        asked.release()
        assert go_on.acquire(timeout=TIMEOUT)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    seen = []
    with learning_watch(read, interval_s=0) as watch:
        for _ in range(4):
            assert asked.acquire(timeout=TIMEOUT)
            seen.append(watch.value)  # of the time before this question
            go_on.release()
        go_on.release(1000)  # whatever it asks until it is stopped
    assert seen == [Learning(), Learning({"m": 0.5}), Learning(), Learning({"m": 0.25})]


def test_no_lake_is_no_picture(tmp_path: Path):
    settings = LakeSettings(catalog=f"sqlite:{tmp_path}/none.sqlite", data_path=str(tmp_path / "data"))
    with pytest.raises(SettingsError):
        read_learning(settings, Registry(tmp_path))


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


def test_the_server_looks_at_every_scrape_and_ends():
    looks: list[int] = []

    def observe() -> Observed:
        looks.append(1)
        return Observed(ready=True, progress=Progress(lag=len(looks)))

    with metrics_server(StreamMetrics(observe), "127.0.0.1", 0) as url:
        assert [series(fetch(url))["labelstream_lag_records"] for _ in range(2)] == [{(): 1}, {(): 2}]
    with pytest.raises(urllib.error.URLError, match="refused"):
        fetch(url)


def test_a_taken_port_is_told_by_the_settings_name():
    (port,) = free_ports(1)
    metrics = StreamMetrics(lambda: Observed(ready=True))
    with (
        metrics_server(metrics, "127.0.0.1", port),
        pytest.raises(SettingsError, match=f"METRICS_PORT={port}.*in use"),
        metrics_server(metrics, "127.0.0.1", port),
    ):
        pass


def test_without_ray_nobody_works_and_ray_is_not_started():
    assert work_reports(Settings(), labellers=[0]) == {}


def test_a_meter_knows_when_it_started():
    before, after = BusyMeter().report(), BusyMeter().report()
    assert 0 < before.started_at <= after.started_at
