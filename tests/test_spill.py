"""What does not fit into DuckDB's memory goes to a folder that no other connection uses."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from lakes import lake_settings

from labelstream.streaming.ducklake import connect
from labelstream.streaming.lake import Lake


@pytest.fixture
def connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> duckdb.DuckDBPyConnection:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    Lake(settings := lake_settings(tmp_path)).close()
    return connect(settings, read_only=True)


def spill_folder(connection: duckdb.DuckDBPyConnection) -> Path:
    ((folder,),) = connection.execute("SELECT current_setting('temp_directory')").fetchall()
    return Path(folder)


def test_it_is_made_when_it_is_needed_and_removed_at_the_end(connection: duckdb.DuckDBPyConnection, tmp_path: Path):
    folder = spill_folder(connection)
    assert folder.parent == tmp_path / "temporary"
    assert not folder.exists()
    connection.execute("SET memory_limit = '30MB'")
    connection.execute("CREATE TEMP TABLE large AS SELECT uuid() AS text FROM range(2_000_000)")
    assert list(folder.iterdir())
    connection.close()
    assert not folder.exists()


def test_each_connection_has_its_own(connection: duckdb.DuckDBPyConnection, tmp_path: Path):
    with connection, connect(lake_settings(tmp_path), read_only=True) as other:
        assert spill_folder(connection) != spill_folder(other)
