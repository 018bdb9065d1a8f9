"""Schemathesis as a command of its own, over a real socket: what it finds, anybody with the address would find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_COMMAND = Path(sys.executable).with_name("schemathesis")
_ROUTES = 7

needs_schemathesis = pytest.mark.skipif(
    not _COMMAND.exists(), reason="schemathesis is not installed: requirements/dev.txt"
)


def ask_what_is_described(url: str, authorization: str, options: str, folder: Path) -> None:
    """Have it read the OpenAPI document and ask every route; fails with its report if it finds anything.

    Args:
        url: Of the endpoint.
        authorization: The header's value.
        options: Of ``schemathesis run``.
        folder: Where it may leave files.
    """
    described = [_COMMAND, "run", f"{url.rstrip('/')}/openapi.json", "--header", f"Authorization: {authorization}"]
    done = subprocess.run(
        [*described, "--seed", "1", "--no-color", *options.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{_ROUTES} selected / {_ROUTES} total" in done.stdout, done.stdout
