"""Ray nodes with a disk of their own each, one lake on PostgreSQL, and a node that is killed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from models import tiny_llama
from patience import TIMEOUT
from postgres import PostgresServer, postgres_server
from ray.cluster_utils import Cluster
from stream import KnownLog, look_until

from labelstream.actors import application as module
from labelstream.actors.application import Application, Progress
from labelstream.actors.ingest import ingest_options
from labelstream.schemas.model_settings import EncoderSettings, LabellerSettings
from labelstream.schemas.settings import (
    KafkaSettings,
    LakeSettings,
    RaySettings,
    Settings,
    StoreSettings,
    StreamSettings,
)
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.lake import Lake
from labelstream.streaming.topics import ensure_topics

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.engine, pytest.mark.timeout(900)]

MakeSettings = Callable[..., KafkaSettings]
REPLICAS = 3
LABELLER_CPUS = 2  # more than a node has that may die
NAMESPACE = "nodes"
READER = "reader"  # a resource of Ray
PATIENCE_S = 240  # three nodes on two cores, and one of them is made anew


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


class Nodes:
    """Nodes of a Ray cluster, each with an address and a working folder of its own.

    The path of the store is relative, so each node has a store of its own, as machines have. The first node is
    127.0.0.2: Ray takes 127.0.0.1 for the machine's outer address. Each node has room for one reader.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cluster = Cluster()
        self._nodes: dict[str, Any] = {}
        self._numbers = itertools.count(2)

    def add(self, cpus: int) -> None:
        address = f"127.0.0.{next(self._numbers)}"
        options = {"num_cpus": cpus, "resources": {READER: 1}, "object_store_memory": 80 << 20}
        (self._folder / address).mkdir()
        with contextlib.chdir(self._folder / address):
            node = self._cluster.add_node(node_ip_address=address, **options)
        self._nodes[node.node_id] = node

    def join(self) -> None:
        """Be a driver on the first node."""
        options = {"_node_ip_address": "127.0.0.2", "logging_level": "error", "log_to_driver": False}
        ray.init(self.address, namespace=NAMESPACE, **options)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def ids(self) -> list[str]:
        """Of all nodes, the driver's first."""
        return list(self._nodes)

    def kill(self, node_id: str) -> None:
        self._cluster.remove_node(self._nodes.pop(node_id), allow_graceful=False)

    def shutdown(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    try:
        for cpus in (LABELLER_CPUS + 1, 1, 1):
            made.add(cpus)
        made.join()
        yield made
    finally:
        made.shutdown()


@pytest.fixture(autouse=True)
def one_ingest_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPREAD is best effort, and Ray may put all on one node. Room for one is what it has to keep to."""
    monkeypatch.setattr(
        module,
        "ingest_options",
        lambda settings, replica: ingest_options(settings, replica) | {"resources": {READER: 1}},
    )


@pytest.fixture
def settings(
    nodes: Nodes, kafka: KafkaCluster, fresh_topics: MakeSettings, server: PostgresServer, tmp_path: Path
) -> Settings:
    tiny_llama(tmp_path / "model")
    made = Settings(
        kafka=fresh_topics(kafka.bootstrap_servers, session_timeout_ms=6000),
        lake=LakeSettings(catalog=server.new_database(), data_path=str(tmp_path / "data")),
        store=StoreSettings(path=Path("store"), max_bytes=1 << 30),
        labeller=LabellerSettings(model=str(tmp_path / "model"), cpus=LABELLER_CPUS),
        encoder=EncoderSettings(enabled=False),
        stream=StreamSettings(replicas=REPLICAS, batch_records=40, linger_s=0.1, resolve_interval_s=1),
        ray=RaySettings(address=nodes.address, namespace=NAMESPACE),
    )
    ensure_topics(made.kafka)
    return made


def node_of(ingest: Any) -> str:
    return str(ray.get(ingest.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()), timeout=TIMEOUT))


def has_records(count: int) -> Callable[[Progress], bool]:
    def is_so(progress: Progress) -> bool:
        totals = progress.lake.totals if progress.lake else {"records": 0, "waiting": 1}
        return totals["records"] >= count and totals["waiting"] == 0

    return is_so


def everybody_reads(progress: Progress) -> bool:
    return len(progress.reports) == REPLICAS and all(report.partitions for report in progress.reports)


def test_a_node_that_dies_costs_nothing(nodes: Nodes, settings: Settings, tmp_path: Path) -> None:
    log = KnownLog(7, 300)
    half, total = len(log.events) // 2, sum(log.outcomes.values())
    log.send_products(settings.kafka)
    log.send_events(settings.kafka, 0, half)
    with Application(settings) as application:
        assert {node_of(ingest) for ingest in application._ingests} == set(nodes.ids)
        doomed = nodes.ids[-1]
        look = partial(look_until, application, seconds=PATIENCE_S)
        look(has_records(half), "the first half")
        look(everybody_reads, "every replica has partitions")
        log.send_events(settings.kafka, half)
        look(has_records(half + 60), "the second half has begun")
        nodes.kill(doomed)
        nodes.add(cpus=1)  # as whoever looks after the machines would
        look(has_records(total), "all")
        look(application.is_drained, "every replica is back, and nothing left")
        assert {node_of(ingest) for ingest in application._ingests} == set(nodes.ids)
        assert application.stop() == 0
    with Lake(settings.lake, read_only=True) as lake:
        log.check(lake)
    stores = {path.parent.parent.name for path in tmp_path.glob("*/store/data.mdb")}
    assert len(stores) == REPLICAS + 1, "every node that was ever there had a store"
