"""A real PostgreSQL of the tests' own, on a unix socket, as a user who is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

USER = "labelstream"
START_S = 60


def find_postgres() -> Path:
    """The folder of the newest server's programs, where Debian's package ``postgresql`` puts them; else skips."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql: install Debian's package postgresql")
    return max(found, key=lambda path: int(path.parent.name))


class PostgresServer:
    """One server; may be killed and started again.

    Args:
        programs: From ``find_postgres``.
        folder: Belongs to the user that the server runs as; its path is short, for the socket lies in it.
        account: Whom to run as; None to stay who we are.
    """

    def __init__(self, programs: Path, folder: Path, account: str | None) -> None:
        self._programs, self._folder = programs, folder
        self._identity: dict[str, Any] = {}
        if account is not None:
            entry = pwd.getpwnam(account)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            self._identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        self._run("initdb", "-D", str(folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self._folder}", "-c", "fsync=off"]
        command = [self._programs / "postgres", "-D", self._folder / "data", *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._identity)
        deadline = time.monotonic() + START_S
        while self._ask("pg_isready", "-q").returncode:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGQUIT: every connection ends at once, and the next start recovers from the log, as after a crash."""
        self._process.send_signal(3)
        self._process.wait(START_S)

    def new_database(self) -> str:
        """A database of its own for a test, as LABELSTREAM_LAKE_CATALOG names it."""
        name = f"lake_{uuid.uuid4().hex[:8]}"
        self._run("createdb", "-h", str(self._folder), "-U", USER, name)
        return f"postgres:dbname={name} host={self._folder} user={USER}"

    def _ask(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [self._programs / program, "-h", self._folder, "-U", USER, *arguments]
        return subprocess.run(command, check=False, cwd=self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, **self._identity)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server in a temporary folder; root hands it to the package's own user, for it refuses to run as root."""
    programs = find_postgres()
    account = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="labelstream-pg-"))
    try:
        server = PostgresServer(programs, folder, account)
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)
