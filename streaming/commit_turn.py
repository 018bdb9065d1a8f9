"""Writers of several machines commit one after the other, so that none does its work for nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import duckdb

from labelstream.streaming.ducklake import CATALOGUE
from labelstream.streaming.lake_errors import as_lake_error

if TYPE_CHECKING:
    from labelstream.schemas.settings import LakeSettings

_LOCK = 0x6C616265  # any number that nobody else takes in this database


class CommitTurn:
    """Waits for its turn where the catalogue is PostgreSQL; SQLite has a lock of its own. A context manager.

    This is manners, not a guarantee: DuckLake lets one of two commits win that overlap, and without turns the other
    one would have written its files in vain, again and again.

    Args:
        connection: With the lake attached; the turn has a transaction of its own, which ends after the commit's.
        settings: Of the lake.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, settings: LakeSettings) -> None:
        self._cursor = None if settings.catalog_file else connection.cursor()
        self._patience_ms = settings.busy_timeout_ms

    def __enter__(self) -> None:
        """Wait for the turn.

        Raises:
            LakeBusy: Somebody has had it for longer than ``lake.busy_timeout_ms``.
            LakeUnavailable: PostgreSQL does not answer.
        """
        if self._cursor is None:
            return
        try:
            self._cursor.execute("BEGIN")
            self._ask(f"SELECT set_config('lock_timeout', '{self._patience_ms}', true)")
            self._ask(f"SELECT pg_advisory_xact_lock({_LOCK})::text")
        except duckdb.Error as error:
            self._end()
            raise as_lake_error(error) from error

    def __exit__(self, *_: object) -> None:
        if self._cursor is not None:
            self._end()

    def _ask(self, statement: str) -> None:
        assert self._cursor is not None
        self._cursor.execute("FROM postgres_query(?, ?)", [CATALOGUE, statement]).fetchall()

    def _end(self) -> None:
        assert self._cursor is not None
        with contextlib.suppress(duckdb.Error):  # without a connection there is no turn to give back
            self._cursor.execute("ROLLBACK")

    def close(self) -> None:
        """Give the cursor back."""
        if self._cursor is not None:
            self._cursor.close()
