"""SIGKILL at random moments, then count: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from models import tiny_llama
from patience import TIMEOUT
from processes import StreamProcess
from stream import KnownLog, wait_until

from labelstream.schemas.settings import KafkaSettings, LakeSettings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.lake import Lake
from labelstream.streaming.topics import ensure_topics

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.broker, pytest.mark.engine, pytest.mark.timeout(1200)]

MakeSettings = Callable[..., KafkaSettings]
SEED = int(os.environ.get("LABELSTREAM_TEST_SEED", "20261121"))
# 16 kills. A labeller takes longest to come back, so it dies least often; the command itself dies once.
KILLS = ["ingest"] * 5 + ["writer"] * 5 + ["broker"] * 3 + ["labeller"] * 2 + ["command"]


class Trial:
    """A stream with everything real, its log, and what has been killed so far."""

    def __init__(self, folder: Path, broker: KafkaCluster, kafka: KafkaSettings) -> None:
        self.folder, self.broker, self.kafka = folder, broker, kafka
        self.lake = LakeSettings(catalog=f"sqlite:{folder}/lake.sqlite", data_path=f"{folder}/lake")
        self.environment = {
            **broker.settings_environment(),
            "LABELSTREAM_KAFKA_GROUP": kafka.group,
            "LABELSTREAM_KAFKA_EVENTS_TOPIC": kafka.events_topic,
            "LABELSTREAM_KAFKA_PRODUCTS_TOPIC": kafka.products_topic,
            "LABELSTREAM_KAFKA_LABELS_TOPIC": kafka.labels_topic or "",
            "LABELSTREAM_KAFKA_DEAD_LETTERS_TOPIC": kafka.dead_letters_topic or "",
            "LABELSTREAM_KAFKA_SESSION_TIMEOUT_MS": "6000",
            "LABELSTREAM_LAKE_CATALOG": self.lake.catalog,
            "LABELSTREAM_LAKE_DATA_PATH": self.lake.data_path,
            "LABELSTREAM_STORE_PATH": f"{folder}/store",
            "LABELSTREAM_LABELLER_MODEL": str(folder / "model"),
            "LABELSTREAM_ENCODER_ENABLED": "false",
            "LABELSTREAM_STREAM_REPLICAS": "2",
            "LABELSTREAM_STREAM_BATCH_RECORDS": "40",
            "LABELSTREAM_STREAM_LINGER_S": "0.1",
            "LABELSTREAM_STREAM_RESOLVE_INTERVAL_S": "1",
            "LABELSTREAM_STREAM_HANG_S": "10",
            "LABELSTREAM_LABELLER_ANSWER_TIMEOUT_S": "30",
        }
        self.stream = self.start()

    def start(self, *arguments: str) -> StreamProcess:
        return StreamProcess(self.environment, self.folder / "run.log", *arguments)

    def records(self) -> int:
        """Records that the lake has, or -1 before there is a lake to ask."""
        try:
            with Lake(self.lake, read_only=True) as lake:
                return lake.totals()["records"]
        except Exception:  # the catalogue is being made, or a writer has just died over it
            return -1

    def kill(self, what: str, rng: random.Random) -> bool:
        if what == "broker":
            node = rng.choice(list(self.broker.pids))
            self.broker.kill(node)
            self.broker.restart(node)
            return True
        if what == "command":
            self.stream.kill()
            self.stream = self.start()
            return True
        return self.stream.kill_actor(what, rng)

    def explain(self) -> str:
        """The end of the log, for a failure's message."""
        return (self.folder / "run.log").read_text(errors="replace")[-4000:]


@pytest.fixture
def trial(kafka_home: Path, fresh_topics: MakeSettings, tmp_path: Path) -> Iterator[Trial]:
    tiny_llama(tmp_path / "model")
    with KafkaCluster.start(tmp_path / "kafka", home=kafka_home) as broker:
        kafka = fresh_topics(broker.bootstrap_servers)
        ensure_topics(kafka)
        one = Trial(tmp_path, broker, kafka)
        yield one
        one.stream.clean_up()


def test_kill_nine_anywhere_costs_nothing(trial: Trial) -> None:
    rng, log, allowance = random.Random(SEED), KnownLog(SEED, 1500), Allowance()
    kills = rng.sample(KILLS, len(KILLS))
    feeder = threading.Thread(target=_feed, args=(log, trial.kafka, len(kills), allowance), daemon=True)
    feeder.start()
    for number, what in enumerate(kills, start=1):
        before = max(trial.records(), 0)
        allowance.raise_to(number)
        wait_until(lambda before=before: trial.records() > before, 150, "progress", 0.3, trial.explain)
        time.sleep(rng.uniform(0, 0.5))  # the moment itself: somewhere in the middle of the work
        wait_until(lambda what=what: trial.kill(what, rng), 90, f"a {what} to kill", 0.1, trial.explain)
    feeder.join(180)
    assert not feeder.is_alive()
    total = sum(log.outcomes.values())
    wait_until(lambda: trial.records() >= total, 240, f"all {total} records", 0.5, trial.explain)
    assert trial.stream.terminate(90) == 0, trial.explain()
    with Lake(trial.lake, read_only=True) as lake:
        log.check(lake)


def test_an_actor_that_hangs_is_restarted(trial: Trial) -> None:
    log, allowance = KnownLog(SEED + 1, 400), Allowance()
    kinds = ("writer", "ingest", "labeller")
    feeder = threading.Thread(target=_feed, args=(log, trial.kafka, len(kinds) + 1, allowance), daemon=True)
    feeder.start()
    for number, kind in enumerate(kinds, start=1):
        before = max(trial.records(), 0)
        allowance.raise_to(number)
        wait_until(lambda before=before: trial.records() > before, 200, f"progress before {kind}", 0.3, trial.explain)
        wait_until(
            lambda kind=kind: trial.stream.freeze_actor(kind), TIMEOUT, f"a {kind} to freeze", 0.1, trial.explain
        )
    allowance.raise_to(len(kinds) + 1)
    total = sum(log.outcomes.values())
    wait_until(lambda: trial.records() >= total, 240, f"all {total} records", 0.5, trial.explain)
    assert trial.stream.terminate(90) == 0, trial.explain()
    with Lake(trial.lake, read_only=True) as lake:
        log.check(lake)


class Allowance:
    """How many parts of the log may be sent: one more before each kill, so that each finds work in flight."""

    def __init__(self) -> None:
        self._parts = 0
        self._changed = threading.Condition()

    def raise_to(self, parts: int) -> None:
        with self._changed:
            self._parts = parts
            self._changed.notify_all()

    def wait_for(self, parts: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._parts >= parts, 900)


def _feed(log: KnownLog, kafka: KafkaSettings, parts: int, allowance: Allowance) -> None:
    """Send the catalogue, then the log in parts; the idempotent producer rides out a broker's restart."""
    log.send_products(kafka)
    size = -(-len(log.events) // parts)
    for part in range(parts):
        allowance.wait_for(part + 1)
        log.send_events(kafka, part * size, (part + 1) * size)
