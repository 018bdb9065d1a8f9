"""The command as a person uses it: the demo, the real catalogue and log, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import labelstream
from patience import TIMEOUT

from labelstream.schemas.settings import KafkaSettings, LakeSettings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.lake import Lake
from labelstream.streaming.publish import Outgoing, publish
from labelstream.training.demo_labeller import tiny_random_labeller

MakeSettings = Callable[..., KafkaSettings]


def process(*arguments: str, environment: dict[str, str], timeout: float = TIMEOUT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labelstream", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "LABELSTREAM_LAKE_CATALOG": f"sqlite:{tmp_path}/lake.sqlite",
        "LABELSTREAM_LAKE_DATA_PATH": f"{tmp_path}/lake",
        "LABELSTREAM_STORE_PATH": f"{tmp_path}/store",
        "LABELSTREAM_ENCODER_ENABLED": "false",
    }


@pytest.mark.parametrize("command", ["status", "sql", "compact"])
def test_without_a_lake_it_says_how_to_start_one(command: str, environment: dict[str, str]):
    done = process(command, environment=environment)
    assert done.returncode == 1
    assert "labelstream run" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_broker_it_ends_with_one_line_and_asks_to_be_tried_again(environment: dict[str, str]):
    nowhere = {"LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "LABELSTREAM_KAFKA_REQUEST_TIMEOUT_MS": "1500"}
    done = process("run", environment=environment | nowhere)
    assert done.returncode == 75
    assert "LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_setting_is_named(environment: dict[str, str]):
    done = process("run", environment=environment | {"LABELSTREAM_STREAM_BATCH_RECORDS": "none"})
    assert done.returncode == 1
    assert "LABELSTREAM_STREAM_BATCH_RECORDS" in done.stderr


def test_bad_sql_names_the_tables(environment: dict[str, str]):
    Lake(_lake(environment)).close()
    done = process("sql", "SELECT nothing FROM nowhere", environment=environment)
    assert done.returncode == 1
    assert "labels" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_terminal_in_ascii_cannot_show_is_escaped(environment: dict[str, str]):
    ascii_only = {"PYTHONIOENCODING": "ascii", "LABELSTREAM_KAFKA_GROUP": "K\u00fcche"}
    done = process("settings", environment=environment | ascii_only)
    assert done.returncode == 0, done.stderr
    assert "K\\xfcche" in done.stdout


def test_rows_as_json_are_json_that_every_reader_takes(environment: dict[str, str]):
    Lake(_lake(environment)).close()
    statement = "SELECT '{\"id\": 1}'::BLOB AS value, 'nan'::DOUBLE AS score, DATE '2026-01-05' AS day"
    done = process("sql", statement, "--format", "json", environment=environment)
    assert json.loads(done.stdout, parse_constant=pytest.fail) == {
        "value": '{"id": 1}', "score": None, "day": "2026-01-05",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(400)
def test_the_demo_runs_on_a_mock_broker(tmp_path: Path):
    """As on a machine without Apache Kafka; the labeller is untrained, so that the test is short."""
    tiny_random_labeller(tmp_path / "labeller")
    no_java = {"JAVA_HOME": str(tmp_path), "LABELSTREAM_ENCODER_ENABLED": "true"}
    done = process("demo", "--folder", str(tmp_path), "--sessions", "100", environment=no_java, timeout=350)
    assert done.returncode == 0, done.stderr
    assert "ten labelled pairs" in done.stdout
    assert "mock" in done.stderr
    lake = LakeSettings(catalog=f"sqlite:{tmp_path}/lake/catalog.sqlite", data_path=f"{tmp_path}/lake/files")
    with Lake(lake, read_only=True) as read:
        totals = read.totals()
        assert totals["records"] == sum(count for name, count in totals.items() if name != "records")
        assert totals["labelled"] == read.query("SELECT count(*) FROM labels WHERE cross_encoder_score > 0")[0][0] > 0


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_real_log_is_labelled_and_waits_for_a_catalogue(
    kafka: KafkaCluster,
    fresh_topics: MakeSettings,
    environment: dict[str, str],
    tmp_path: Path,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    settings = fresh_topics(kafka.bootstrap_servers)
    tiny_random_labeller(tmp_path / "labeller")
    environment |= {"LABELSTREAM_LABELLER_MODEL": str(tmp_path / "labeller"), **_variables(settings)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    chorus, ubi = data_dir / "chorus" / "products.jsonl.gz", data_dir / "ubi"
    labelstream("import", "-f", "chorus", chorus)
    labelstream("replay", ubi / "chorus_log.ndjson.gz")
    labelstream("replay", ubi / "esci_ubi_bulk.ndjson")
    _drain()
    before = json.loads(labelstream("status", "--json").stdout)
    counts = before["counts"]
    assert counts["products"] == 19_406
    assert counts["queries"] == 3_336 + 473
    # Hovers, clicks, carts and purchases of Chorus, 35 of which are in ESCI's file, join through the product's EAN. The
    # others of ESCI have no catalogue.
    assert counts["labelled"] + counts["cached"] == 772 + 667 + 346 + 327 + 35
    assert before["waiting_now"] == counts["waiting"] == 1999 + 287 + 227
    assert counts["dead_lettered"] == 0
    assert counts["records"] == 19_406 + 25_000 + 3_921
    assert {lag["lag"] for lag in before["lag"]} == {0}

    necklace = {"product_id": "B077VQYJQ9", "title": "Gold cross necklace"}
    publish([Outgoing(b"B077VQYJQ9", json.dumps(necklace).encode())], settings.products_topic, settings)
    with Lake(_lake(environment), read_only=True) as lake:
        [(expected,)] = lake.query("SELECT count(*) FROM waiting WHERE object_id = 'B077VQYJQ9'")
    assert expected > 0
    _drain()
    after = json.loads(labelstream("status", "--json").stdout)
    assert after["waiting_now"] == before["waiting_now"] - expected
    assert after["counts"]["records"] == before["counts"]["records"] + 1


def _drain() -> None:
    done = process("run", "--until-drained", environment={}, timeout=300)
    assert done.returncode == 0, done.stderr


def _lake(environment: dict[str, str]) -> LakeSettings:
    catalog, data_path = environment["LABELSTREAM_LAKE_CATALOG"], environment["LABELSTREAM_LAKE_DATA_PATH"]
    return LakeSettings(catalog=catalog, data_path=data_path)


def _variables(settings: KafkaSettings) -> dict[str, str]:
    names = ("bootstrap_servers", "group", "events_topic", "products_topic", "labels_topic", "dead_letters_topic")
    return {f"LABELSTREAM_KAFKA_{name.upper()}": str(getattr(settings, name)) for name in names}
