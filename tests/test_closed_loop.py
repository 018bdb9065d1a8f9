"""The whole loop, closed: simulated shoppers, Kafka, the stream, the tables, a new ranker, its gate, the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ir_measures
import pytest
from command_line import labelstream

from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.broker import KafkaCluster
from labelstream.training.demo_labeller import tiny_random_labeller
from labelstream.training.registry import Registry

MakeSettings = Callable[..., KafkaSettings]

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.engine]

# A labeller with random weights says nothing of content, so what shoppers do must teach the ranker.
RETRAIN = {
    "LABELSTREAM_RETRAIN_LABEL": "engagement_only",
    "LABELSTREAM_GATE_MINIMUM_QUERIES": "15",
    "LABELSTREAM_GATE_ENGAGEMENT_CUTOFF": "5",
}


class Shop:
    """Commands with one environment: the stream is a process of its own, the others run in this one."""

    def __init__(self, folder: Path, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        tiny_random_labeller(folder / "labeller")
        environment = {
            "LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "LABELSTREAM_KAFKA_GROUP": kafka.group,
            "LABELSTREAM_KAFKA_EVENTS_TOPIC": kafka.events_topic,
            "LABELSTREAM_KAFKA_PRODUCTS_TOPIC": kafka.products_topic,
            "LABELSTREAM_KAFKA_LABELS_TOPIC": str(kafka.labels_topic),
            "LABELSTREAM_KAFKA_DEAD_LETTERS_TOPIC": str(kafka.dead_letters_topic),
            "LABELSTREAM_LAKE_CATALOG": f"sqlite:{folder}/lake.sqlite",
            "LABELSTREAM_LAKE_DATA_PATH": f"{folder}/lake",
            "LABELSTREAM_STORE_PATH": f"{folder}/store",
            "LABELSTREAM_STORE_MAX_BYTES": str(1 << 30),
            "LABELSTREAM_REGISTRY_FOLDER": f"{folder}/registry",
            "LABELSTREAM_LABELLER_MODEL": f"{folder}/labeller",
            "LABELSTREAM_ENCODER_ENABLED": "false",
            **RETRAIN,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)

    def run(self, *arguments: str) -> str:
        """What a command prints; it must end well."""
        done = labelstream(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def drain(self) -> None:
        """Run the stream until nothing is left."""
        done = subprocess.run(
            [sys.executable, "-m", "labelstream", "run", "--until-drained"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_simulated_shoppers_bring_forth_a_champion(
    tmp_path: Path, kafka: KafkaCluster, fresh_topics: MakeSettings, monkeypatch: pytest.MonkeyPatch
):
    shop = Shop(tmp_path, fresh_topics(kafka.bootstrap_servers), monkeypatch)
    files = ["--catalogue", "shop/products.jsonl", "--layout", "products"]
    shop.run("demo-shop", "--out", "shop", "--queries", "80", "--per-query", "9", "--products", "300")
    shop.run("import", "shop/products.jsonl")
    sent = shop.run(
        "simulate", "--judgments", "shop/truth.csv", *files, "--sessions", "2000", "--out", "log.ndjson", "--publish"
    )
    assert "records sent to" in sent
    shop.drain()
    totals = json.loads(
        shop.run("sql", "SELECT sum(labelled)::INT AS labelled, sum(waiting)::INT AS waiting, "
                 "sum(dead_lettered)::INT AS bad FROM consumed", "--format", "json")
    )  # fmt: skip
    assert 0 < totals["labelled"] <= 720
    assert (totals["waiting"], totals["bad"]) == (0, 0)

    told = shop.run("retrain", "--judgments", "shop/judgments.csv", *files)
    assert "content judged by: people" in told
    champion = Registry(tmp_path / "registry").champion("ranker")
    assert champion is not None
    assert "champion" in shop.run("models", "list")
    again = shop.run("retrain", "--judgments", "shop/judgments.csv", *files)
    assert champion.version in again  # the same snapshot is the same ranker
    assert len(Registry(tmp_path / "registry").names("ranker")) == 1

    shop.run("export", "qrels", "--out", "labels.qrels")
    assert sum(1 for _ in ir_measures.read_trec_qrels(str(tmp_path / "labels.qrels"))) == totals["labelled"]
