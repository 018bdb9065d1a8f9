"""A ranker by command, trained by several workers on real Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from test_retraining import lake  # noqa: F401 - a fixture
from typer.testing import CliRunner

from labelstream.actors import ranker_workers as module
from labelstream.cli import app
from labelstream.schemas.errors import LabelstreamError, ModelUnavailable, SettingsError
from labelstream.streaming.lake import Lake
from labelstream.training.durable_files import LEFTOVER_AGE_S
from labelstream.training.features import FeatureTable
from labelstream.training.ranker import Ranker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # Ray sets its own deprecated settings
]

ROUNDS = 300
HIDDEN = ".labelstream-ranker-*"


def set_environment(monkeypatch: pytest.MonkeyPatch, of: Lake, state: Path) -> None:
    """Of a command that trains all its trees with two workers."""
    variables = {
        "LAKE_CATALOG": of._settings.catalog,
        "LAKE_DATA_PATH": of._settings.data_path,
        "REGISTRY_FOLDER": str(state / "registry"),
        "RANKER_ROUNDS": str(ROUNDS),
        "RANKER_PATIENCE": str(ROUNDS),
        "RANKER_WORKERS": "2",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"LABELSTREAM_{name}", value)


@pytest.fixture(autouse=True)
def environment(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    set_environment(monkeypatch, lake, tmp_path / "state")


@pytest.fixture(scope="module")
def on_one_machine(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Ranker:  # noqa: F811
    """What two workers train undisturbed; nothing is left beside the registry."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch, lake, folder / "state")
        ranker = trained(folder / "ranker")
    assert list((folder / "state").iterdir()) == []
    return ranker


def trained(out: Path, *options: str) -> Ranker:
    """What the command trains."""
    done = CliRunner().invoke(app, ["train", "ranker", "--out", str(out), *options])
    assert done.exit_code == 0, (done.output, done.exception)
    assert not ray.is_initialized()
    ranker = Ranker.load(out)
    assert f"{ranker.card.rounds}/{ROUNDS}" in done.output, "the bar"
    return ranker


def refused(out: Path, *options: str) -> LabelstreamError:
    """What the command ends with."""
    done = CliRunner().invoke(app, ["train", "ranker", "--out", str(out), *options])
    assert isinstance(done.exception, LabelstreamError), (done.output, done.exception)
    assert not ray.is_initialized()
    assert not out.exists()
    return done.exception


def wait_for_trees(storage: Path, is_over: Callable[[], bool]) -> bool:
    """Wait until the workers have told of their first trees, or the command is over."""
    while not any(storage.glob(f"{HIDDEN}/*.json")):
        if is_over():
            return False
        time.sleep(0.01)
    return True


@contextmanager
def a_worker_dies(storage: Path) -> Iterator[None]:
    """One of those that train meanwhile is killed after its first trees."""
    over, killed = threading.Event(), list[int]()

    def kill() -> None:
        if wait_for_trees(storage, over.is_set):
            children = psutil.Process().children(recursive=True)
            worker = next(child for child in children if "RayTrainWorker" in " ".join(child.cmdline()))
            worker.kill()
            killed.append(worker.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()
    assert len(killed) == 1


def test_two_workers_train_nearly_the_ranker_of_one(on_one_machine: Ranker, tmp_path: Path):
    assert (
        CliRunner().invoke(app, ["train", "ranker", "--out", str(tmp_path / "alone"), "--workers", "1"]).exit_code == 0
    )
    alone = Ranker.load(tmp_path / "alone")
    assert alone.card.features == on_one_machine.card.features
    assert alone.card.validation_ndcg == pytest.approx(on_one_machine.card.validation_ndcg, abs=0.02)
    names = alone.card.features
    rows = FeatureTable(names, np.random.default_rng(1).normal(size=(500, len(names))).astype(np.float32))
    assert np.corrcoef(alone.score(rows), on_one_machine.score(rows))[0, 1] > 0.9


def test_retraining_takes_as_many_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "start_ray", lambda *_: None)  # nobody gets as far as to use it
    monkeypatch.setenv("LABELSTREAM_RANKER_WORKERS", "2000")
    monkeypatch.setenv("LABELSTREAM_RAY_STORAGE", str(tmp_path))
    done = CliRunner().invoke(app, ["retrain"])
    assert "queries for 2000 workers; take fewer workers" in str(done.exception)


def test_what_cannot_be_trained_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "start_ray", lambda *_: None)  # nobody gets as far as to use it
    error = refused(tmp_path / "out", "--workers", "20", "--storage", str(tmp_path / "storage"))
    assert isinstance(error, SettingsError)
    assert "queries for 20 workers; take fewer workers" in str(error)
    assert list((tmp_path / "storage").iterdir()) == []
    (tmp_path / "file").touch()
    error = refused(tmp_path / "out", "--storage", str(tmp_path / "file"))
    assert "name a folder that may be written" in str(error)


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def nobody(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", nobody)
    monkeypatch.setenv("LABELSTREAM_RAY_ADDRESS", "auto")
    error = refused(tmp_path / "out")
    assert isinstance(error, SettingsError)
    assert str(error).startswith("LABELSTREAM_RAY_ADDRESS=auto: no Ray answers there (Could not find any running")


def test_a_ray_that_does_not_start_is_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", late)
    error = refused(tmp_path / "out")
    assert isinstance(error, ModelUnavailable)
    assert str(error).startswith("Ray has not started")


# A suite that runs in the background ignores SIGINT, and what it starts does too.
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from labelstream.cli import main; main()"
)


def test_who_is_interrupted_leaves_nothing(tmp_path: Path):
    command = [sys.executable, "-c", INTERRUPTIBLE, "train", "ranker", "--out", str(tmp_path / "out")]
    rounds = {"LABELSTREAM_RANKER_ROUNDS": "1000000", "LABELSTREAM_RANKER_PATIENCE": "1000000"}
    with subprocess.Popen(command, env={**os.environ, **rounds}, start_new_session=True) as process:
        assert wait_for_trees(tmp_path / "state", lambda: process.poll() is not None)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert list((tmp_path / "state").iterdir()) == []


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The command joins a cluster of two nodes with a core each, and its workers see these variables."""
    cluster, variables = Cluster(), dict[str, str]()
    # Not 127.0.0.1, which Ray takes for the machine's outer address.
    for number in (2, 3):
        cluster.add_node(node_ip_address=f"127.0.0.{number}", num_cpus=1, object_store_memory=80 << 20)
    options = {"_node_ip_address": "127.0.0.2", "logging_level": "error", "log_to_driver": False}

    def join(*_: object) -> None:
        ray.init(cluster.address, runtime_env={"env_vars": variables}, **options)

    monkeypatch.setattr(module, "start_ray", join)
    yield variables
    ray.shutdown()
    cluster.shutdown()


def test_the_same_ranker_comes_again_on_two_nodes_where_a_worker_dies(
    on_one_machine: Ranker, two_nodes: dict[str, str], tmp_path: Path
):
    assert on_one_machine.card.settings.workers == 2
    storage = tmp_path / "storage"
    error = refused(tmp_path / "out")
    assert isinstance(error, SettingsError)
    assert "LABELSTREAM_RAY_STORAGE is not set, and the Ray cluster has 2 nodes" in str(error)
    two_nodes["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "1"
    error = refused(tmp_path / "out", "--workers", "3", "--storage", str(storage))
    assert isinstance(error, ModelUnavailable)
    assert "3 workers of 1 CPUs each could not be started" in str(error)
    two_nodes.clear()
    leftover, others = storage / ".labelstream-ranker-killed", storage / "others"
    for folder in (leftover, others):
        folder.mkdir()
        os.utime(folder, times=(time.time() - 2 * LEFTOVER_AGE_S,) * 2)
    with a_worker_dies(storage):
        again = trained(tmp_path / "out", "--storage", str(storage))
    assert again.card == on_one_machine.card
    assert list(storage.iterdir()) == [others]
