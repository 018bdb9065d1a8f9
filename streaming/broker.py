"""A local Kafka for a first look, the demo and the tests: real where Kafka is at hand, else a mock."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from labelstream.schemas.errors import SettingsError
from labelstream.streaming import broker_guard
from labelstream.streaming.broker_node import HOST, SERVER, STOP_DEADLINE_S, BrokerNode, free_ports
from labelstream.streaming.kafka_client import LARGEST_RECORD_BYTES
from labelstream.streaming.mock_broker import MockCluster


def find_kafka_home() -> Path | None:
    """The folder of an Apache Kafka: ``KAFKA_HOME``, else shared/kafka beside the repository or here.

    Raises:
        SettingsError: ``KAFKA_HOME`` is set but holds no Kafka.
    """
    if home := os.environ.get("KAFKA_HOME"):
        if not (Path(home) / SERVER).is_file():
            raise SettingsError(f"KAFKA_HOME={home} has no {SERVER}; point it at an unpacked Apache Kafka 3.3 or newer")
        return Path(home).resolve()
    beside = (Path(__file__).resolve().parents[2], Path.cwd().parent)
    return next((path / "shared/kafka" for path in beside if (path / "shared/kafka" / SERVER).is_file()), None)


def has_java() -> bool:
    """Whether a Java runtime is at hand (``JAVA_HOME`` or on the path)."""
    java_home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=str(Path(java_home) / "bin") if java_home else None) is not None


def local_broker(folder: Path | None = None) -> KafkaCluster | MockCluster:
    """Start a broker on this machine; use it as a context manager or call ``stop()``.

    Args:
        folder: Where a real broker keeps its records from one start to the next; temporary if None.

    Returns:
        A real Kafka if one is found with a Java runtime, else librdkafka's mock, which is for a first look only.

    Raises:
        MissingDependency: Neither is possible.
        SettingsError: ``KAFKA_HOME`` or the folder cannot work.
        BrokerUnavailable: The broker did not come up.
    """
    home = find_kafka_home()
    return KafkaCluster.start(folder, home=home) if home and has_java() else MockCluster.start()


class KafkaCluster:
    """Real Kafka brokers on the loopback interface, stopped with the context or with this process.

    Build one with :meth:`start`. Nodes are numbered from 1.
    """

    def __init__(self, folder: Path, nodes: list[BrokerNode], *, temporary: bool) -> None:
        self._folder = folder
        self._nodes = {node.node_id: node for node in nodes}
        self._temporary = temporary
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", broker_guard.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @classmethod
    def start(cls, folder: Path | None = None, brokers: int = 1, *, home: Path | None = None) -> Self:
        """Start the brokers and wait until they all take part.

        Args:
            folder: Kept, and read again on the next start with the same ports; temporary if None.
            brokers: How many, for a new folder; from 3 on, topics have three replicas of which two must be in sync.
            home: Kafka's folder; found if None.

        Raises:
            SettingsError: No Kafka is found, the folder is of another size of cluster, or its ports are taken.
            BrokerUnavailable: A broker did not come up.
        """
        home = home or find_kafka_home()
        if home is None:
            raise SettingsError("no Apache Kafka found; set KAFKA_HOME to the folder of an unpacked Apache Kafka")
        root = Path(folder or tempfile.mkdtemp(prefix="labelstream-kafka-")).resolve()
        cluster = cls(root, _open_nodes(home, root, brokers), temporary=folder is None)
        try:
            cluster._start_all()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    @property
    def bootstrap_servers(self) -> str:
        """Comma-separated host:port list of all brokers, running or not."""
        return ",".join(f"{HOST}:{node.port}" for node in self._nodes.values())

    @property
    def pids(self) -> dict[int, int]:
        """Process id of every running broker, by node."""
        return {node_id: node.pid for node_id, node in self._nodes.items() if node.pid is not None}

    def settings_environment(self) -> dict[str, str]:
        """The environment variables with which labelstream reaches this cluster."""
        return {"LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers}

    def kill(self, node: int) -> None:
        """End one broker at once (SIGKILL), as a crash would."""
        self._nodes[node].kill()

    def restart(self, node: int) -> None:
        """Start a broker that was killed, on its own records and port, and wait until it answers."""
        self._spawn(self._nodes[node])
        self._nodes[node].wait_until_open()

    def stop(self) -> None:
        """End all brokers (SIGTERM, then SIGKILL) and remove a temporary folder; may be called again."""
        deadline = time.monotonic() + (0 if self._temporary else STOP_DEADLINE_S)
        for node in self._nodes.values():
            node.terminate()
        for node in self._nodes.values():
            node.wait_until_gone(deadline)
        self._guard.communicate()
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_all(self) -> None:
        nodes = list(self._nodes.values())
        cluster_id = _cluster_id(self._folder)
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: node.format(cluster_id), nodes))
        for node in nodes:
            self._spawn(node)
        for node in nodes:
            node.wait_until_open()

    def _spawn(self, node: BrokerNode) -> None:
        pid = node.spawn()
        if self._guard.stdin is None:  # never: it was opened with a pipe
            raise RuntimeError("the guard has no standard input")
        self._guard.stdin.write(b"%d\n" % pid)
        self._guard.stdin.flush()


def _open_nodes(home: Path, root: Path, brokers: int) -> list[BrokerNode]:
    folders = [root / f"node-{number}" for number in range(1, brokers + 1)]
    existing = sorted(path.parent for path in root.glob("node-*/server.properties"))
    if not existing:
        return _create_nodes(home, folders)
    if existing != folders:
        raise SettingsError(f"{root} holds a cluster of {len(existing)} brokers, not {brokers}; choose another folder")
    return [BrokerNode(home, folder) for folder in folders]


def _create_nodes(home: Path, folders: list[Path]) -> list[BrokerNode]:
    count = len(folders)
    ports, controller_ports = (ports := free_ports(2 * count))[:count], ports[count:]
    voters = ",".join(f"{number}@{HOST}:{port}" for number, port in enumerate(controller_ports, start=1))
    nodes = []
    for number, (folder, port, controller_port) in enumerate(zip(folders, ports, controller_ports, strict=True), 1):
        own: dict[str, str | int] = {
            "node.id": number,
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
            "controller.quorum.voters": voters,
            "log.dirs": str(folder / "data"),
        }
        nodes.append(BrokerNode.create(home, folder, own | _common_properties(count)))
    return nodes


def _common_properties(brokers: int) -> dict[str, str | int]:
    replicas = min(3, brokers)
    in_sync = 2 if replicas == 3 else 1  # noqa: PLR2004
    return {
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "num.partitions": 4,
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 4 << 20,
        "message.max.bytes": LARGEST_RECORD_BYTES,
        "replica.fetch.max.bytes": LARGEST_RECORD_BYTES,
        # With Kafka's default the registration of a killed broker blocks its own restart for 13 s.
        "broker.session.timeout.ms": 2000,
        "broker.heartbeat.interval.ms": 500,
    }


def _cluster_id(root: Path) -> str:
    file = root / "cluster-id"
    if not file.exists():
        # Kafka's own form: 16 bytes in URL-safe base64; a leading dash would read as an option of its tools.
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        file.write_text(re.sub("^-", "A", name), encoding="ascii")
    return file.read_text(encoding="ascii")
