"""The stream as its own processes, and the means to kill them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
from patience import TIMEOUT

# Ray names a worker after the actor class and the method that runs.
ACTORS = {"ingest": "ray::IngestActor", "writer": "ray::Writer", "labeller": "ray::Labeller"}


class StreamProcess:
    """``labelstream run`` in a process of its own.

    Args:
        environment: LABELSTREAM_ variables.
        log: Where its output goes.
        arguments: Options of the command.
    """

    COMMAND = "run"

    def __init__(self, environment: Mapping[str, str], log: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "labelstream", self.COMMAND, *arguments]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Of the command."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the command has not ended."""
        return self._process.poll() is None

    def actors(self, kind: str) -> list[psutil.Process]:
        """The live processes of one kind of actor."""
        return [process for process in self._descendants() if _command(process).startswith(ACTORS[kind])]

    def kill_actor(self, kind: str, rng: random.Random) -> bool:
        """SIGKILL one actor of a kind, if there is one."""
        found = self.actors(kind)
        if found:
            rng.choice(found).kill()
        return bool(found)

    def freeze_actor(self, kind: str) -> bool:
        """SIGSTOP one actor of a kind, if there is one: it lives, and does not answer."""
        found = self.actors(kind)
        if found:
            found[0].suspend()
        return bool(found)

    def kill(self) -> None:
        """SIGKILL the command itself; Ray's processes are to follow it."""
        self._process.kill()
        self._process.wait(TIMEOUT)

    def terminate(self, timeout_s: float) -> int:
        """SIGTERM, and the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """The exit code."""
        return self._process.wait(timeout_s)

    def clean_up(self) -> None:
        """Leave nothing behind, whatever happened."""
        for process in [*self._descendants(), self._process]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait(TIMEOUT)

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


class EndpointProcess(StreamProcess):
    """``labelstream serve`` in a process of its own."""

    COMMAND = "serve"


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
