"""One real Kafka broker (KRaft, its own controller) as a child process on the loopback interface."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from labelstream.schemas.errors import BrokerUnavailable, SettingsError

HOST = "127.0.0.1"
SERVER = Path("bin/kafka-server-start.sh")
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 15.0

# Below the range that Linux gives to outgoing connections (32768 and up): a client that keeps
# reconnecting to a dead broker must not be given the broker's own port as its source.
_PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Distinct loopback TCP ports on which nobody listens.

    Raises:
        BrokerUnavailable: When no free ports are found.
    """
    candidates = (port for port in random.sample(_PORTS, k=min(len(_PORTS), 100 + 10 * count)) if port_is_free(port))
    ports = [port for port, _ in zip(candidates, range(count), strict=False)]
    if len(ports) < count:
        raise BrokerUnavailable(f"found {len(ports)} of {count} free loopback ports; stop other local servers")
    return ports


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As Kafka does: connections of a dead broker that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def port_answers(port: int) -> bool:
    """Whether a server accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


class BrokerNode:
    """One broker: a folder with its properties, its data and its log, and at most one process.

    Args:
        home: Kafka's installation folder.
        folder: This broker's own folder, which holds ``server.properties`` already.
    """

    def __init__(self, home: Path, folder: Path) -> None:
        self._home = home
        self._folder = folder
        self._properties_file = folder / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        properties = _read_properties(self._properties_file)
        self.node_id = int(properties["node.id"])
        self.port = int(properties["advertised.listeners"].rpartition(":")[2])
        self._data = Path(properties["log.dirs"])

    @classmethod
    def create(cls, home: Path, folder: Path, properties: Mapping[str, str | int]) -> BrokerNode:
        """Write a broker's properties into a new folder."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = (f"{name}={value}\n" for name, value in properties.items())
        (folder / "server.properties").write_text("".join(lines), encoding="utf-8")
        return cls(home, folder)

    @property
    def pid(self) -> int | None:
        """Process id while the broker runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log_file(self) -> Path:
        """Everything that the JVM printed."""
        return self._folder / "server.log"

    def format(self, cluster_id: str) -> None:
        """Prepare an empty data folder for this cluster; a prepared one is left alone.

        Raises:
            BrokerUnavailable: Kafka's storage tool refused.
        """
        if (self._data / "meta.properties").exists():
            return
        tool = self._home / "bin" / "kafka-storage.sh"
        command = [str(tool), "format", "--ignore-formatted", "-t", cluster_id, "-c", str(self._properties_file)]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerUnavailable(f"{tool.name} refused {self._data}: {(done.stderr or done.stdout).strip()}")

    def spawn(self) -> int:
        """Start the process without waiting for it.

        Returns:
            Its process id.

        Raises:
            SettingsError: The broker's port is taken, most likely by a broker on the same folder.
        """
        if not port_is_free(self.port):
            raise SettingsError(
                f"port {self.port} of the broker in {self._folder} is taken; stop the broker that runs on this "
                "folder, or choose another folder"
            )
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [self._home / SERVER, self._properties_file],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we stop the broker in good order
            )
        return self._process.pid

    def wait_until_open(self) -> None:
        """Wait for the TCP port: a Kafka client that starts before it is open can hang for 30 s.

        Raises:
            BrokerUnavailable: The process ended or the port stayed closed; names the log file.
        """
        deadline = time.monotonic() + START_DEADLINE_S
        while not port_answers(self.port):
            if self.pid is None:
                raise BrokerUnavailable(f"Kafka broker {self.node_id} ended while starting; see {self.log_file}")
            if time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"Kafka broker {self.node_id} is not up in {START_DEADLINE_S:g} s; see {self.log_file}"
                )
            time.sleep(0.05)

    def terminate(self) -> None:
        """Ask the broker to stop (SIGTERM) without waiting for it."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait_until_gone(self, deadline: float) -> None:
        """Wait for the end of the process until ``deadline`` (monotonic seconds), then kill it."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the broker at once (SIGKILL)."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _environment(self) -> dict[str, str]:
        # LOG_DIR is where a downloaded Kafka puts its own log files.
        defaults = {"KAFKA_HEAP_OPTS": "-Xms64m -Xmx512m"}
        return {**defaults, **os.environ, "LOG_DIR": str(self._folder / "logs")}


def _read_properties(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in file.read_text(encoding="utf-8").splitlines())
    return {name: value for name, _, value in pairs}
