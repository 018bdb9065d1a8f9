"""Fixtures that many tests share: a real Kafka and the real data."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.broker import KafkaCluster, find_kafka_home, has_java

# Other work on the machine must not fail a test, nor must chance: the same examples in every run, and half as many as
# usual, because a second run of the same tells nothing new; others, and all of them, on demand.
_random = "LABELSTREAM_TEST_RANDOM" in os.environ
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=not _random, max_examples=100 if _random else 50
)
hypothesis.settings.load_profile("suite")

# Brokers and clusters of a test live for seconds: what the Java runtime would gain by optimising, and Ray by starting
# processes ahead, is less than what it costs.
os.environ.setdefault("KAFKA_OPTS", "-XX:TieredStopAtLevel=1")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")

MakeSettings = Callable[..., KafkaSettings]

# The files that take longest, longest first: one that begins last would keep the other processes waiting.
LONGEST = (
    "test_several_nodes.py",
    "test_command.py",
    "test_ingest.py",
    "test_labeller_scaling.py",
    "test_ranker_workers.py",
    "test_judge_training.py",
    "test_named_replicas.py",
    "test_labeller.py",
    "test_serving.py",
    "test_postgres.py",
    "test_retraining.py",
    "test_label_engine.py",
    "test_closed_loop.py",
    "test_object_storage.py",
    "test_broker.py",
    "test_fine_tuning.py",
    "test_train_command.py",
    "test_demo_labeller.py",
    "test_pair_scorer.py",
    "test_ranker_actor.py",
    "test_models_deployment.py",
    "test_serve_proxy.py",
    "test_placement.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest files begin first, the others as they come."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def _logging_untouched() -> Iterator[None]:
    """A command or a replica sets up logging for its whole process; no test, before or after, may find it like that.

    Restoring what stood here before is not enough: a fixture of a whole module has run a command by then.
    """
    _reset_logging()
    yield
    _reset_logging()


def _reset_logging() -> None:
    ours = logging.getLogger("labelstream")
    ours.handlers.clear()
    ours.propagate = True
    ours.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def kafka_home() -> Path:
    """The folder of a real Kafka that can run here."""
    home = find_kafka_home()
    if home is None:
        pytest.skip("no Apache Kafka: set KAFKA_HOME or put one at ../shared/kafka")
    if not has_java():
        pytest.skip("no Java runtime: put java on the path or set JAVA_HOME")
    return home


@pytest.fixture(scope="session")
def kafka(kafka_home: Path) -> Iterator[KafkaCluster]:
    """One real broker for the whole session; tests keep apart by their topics (see ``fresh_topics``)."""
    with KafkaCluster.start(home=kafka_home) as cluster:
        yield cluster


@pytest.fixture
def kafka_three(kafka_home: Path) -> Iterator[KafkaCluster]:
    """Three real brokers of the test's own: it may kill them."""
    with KafkaCluster.start(brokers=3, home=kafka_home) as cluster:
        yield cluster


@pytest.fixture
def fresh_topics() -> MakeSettings:
    """Make settings for a broker with topics and a group that no other test uses."""

    def make(bootstrap_servers: str, **options: object) -> KafkaSettings:
        name = uuid.uuid4().hex[:8]
        topics = {f"{kind}_topic": f"{kind}-{name}" for kind in ("events", "products", "labels", "dead_letters")}
        return KafkaSettings.model_validate(
            {"bootstrap_servers": bootstrap_servers, "group": f"group-{name}", **topics, **options}
        )

    return make


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real catalogues and logs, from LABELSTREAM_TEST_DATA, else ../shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LABELSTREAM_TEST_DATA", beside))
    if not (folder / "chorus").is_dir():
        pytest.skip("no real data: set LABELSTREAM_TEST_DATA to a folder with chorus/ and ubi/")
    return folder
