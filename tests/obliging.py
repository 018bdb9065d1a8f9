"""A replica without any work; apart from the tests, so that its process starts quickly."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import ray


class Obliging:
    """Says who it is, and does what it is told; leaves notes in a folder."""

    def __init__(self, notes: Path) -> None:
        if (notes / "do not start").exists():
            raise ValueError("not again")
        self._notes = notes

    async def who(self) -> int:
        return os.getpid()

    async def ping(self) -> bool:
        name = ray.get_runtime_context().get_actor_name()
        if (self._notes / f"{name} hangs").exists():
            await asyncio.Event().wait()
        return not (self._notes / f"the model of {name} hangs").exists()

    async def ponder(self) -> None:
        """Never comes to an end by itself."""
        (self._notes / "pondering").touch()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            (self._notes / "cancelled").touch()
            raise

    async def fail(self, error: Exception) -> None:
        raise error
