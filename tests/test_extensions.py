"""DuckDB's extensions are loaded only as their makers have signed them, by the first connection and by all others."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from lakes import lake_settings

from labelstream.schemas.errors import SettingsError
from labelstream.streaming import ducklake
from labelstream.streaming.ducklake import connect
from labelstream.streaming.lake import Lake

SIGNATURE = 256  # the last bytes of the file


@pytest.fixture
def unsigned(tmp_path: Path) -> Path:
    """DuckLake's own extension without its signature."""
    packaged = ducklake._packaged_extension("ducklake")
    assert packaged is not None
    path = tmp_path / "unsigned.duckdb_extension"
    path.write_bytes(packaged.read_bytes()[:-SIGNATURE] + bytes(SIGNATURE))
    return path


@pytest.mark.parametrize("checked", [False, True])
def test_no_connection_takes_what_nobody_has_signed(
    checked: bool, unsigned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Lake(settings := lake_settings(tmp_path)).close()
    if not checked:
        monkeypatch.setattr(ducklake, "_checked", set())
    with connect(settings, read_only=True) as connection:
        with pytest.raises(duckdb.IOException, match="signature"):
            connection.load_extension(str(unsigned))
        with pytest.raises(duckdb.InvalidInputException, match="allow_unsigned_extensions"):
            connection.execute("SET allow_unsigned_extensions = true")


def test_the_first_connection_checks_what_it_loads(unsigned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ducklake, "_checked", set())
    monkeypatch.setattr(ducklake, "_packaged_extension", lambda _: unsigned)
    with pytest.raises(SettingsError, match="signature"):
        Lake(lake_settings(tmp_path))
    assert not ducklake._checked
