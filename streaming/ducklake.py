"""Open a DuckLake: extensions, catalogue, files."""

from __future__ import annotations

import importlib
import os
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from labelstream.schemas.errors import MissingDependency, SettingsError
from labelstream.streaming import object_storage
from labelstream.streaming.lake_errors import as_lake_error, lake_errors

if TYPE_CHECKING:
    from labelstream.schemas.settings import LakeSettings


# The database of DuckLake's own tables, beside the one that is attached as ``lake``.
CATALOGUE = "__ducklake_metadata_lake"

# Extensions whose signature DuckDB has checked in this process, which takes it a tenth of a second for each. A second
# connection gets the library that the first one has loaded, whatever stands in the file by then.
_checked: set[str] = set()


def connect(settings: LakeSettings, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection whose current schema is the lake.

    Args:
        settings: Where the catalogue and the files are.
        read_only: Refuse writes; the lake must exist.

    Raises:
        MissingDependency: DuckLake's extension is neither installed as a package nor to be had online.
        SettingsError: The catalogue or the data path does not fit, or the object storage refuses.
        TransientError: The catalogue is locked, or it or the object storage does not answer.
    """
    extensions = _extensions(settings)
    with lake_errors():
        _prepare_folders(settings, read_only=read_only)
        connection = duckdb.connect(
            config={
                "memory_limit": settings.memory_limit,
                "threads": settings.threads,
                "temp_directory": _spill_folder(),
                "allow_unsigned_extensions": _checked.issuperset(extensions),
            }
        )
    try:
        connection.execute("SET preserve_insertion_order = true")
        connection.execute("SET GLOBAL TimeZone = 'UTC'")  # also of the connections that DuckLake makes
        for name in extensions:
            load_extension(connection, name)
        connection.execute("SET allow_unsigned_extensions = false")  # which cannot be taken back
        object_storage.prepare(connection, settings)
        if not read_only:
            object_storage.check(connection, settings)
        connection.execute(_attach_statement(settings, read_only=read_only))
        connection.execute("USE lake")
    except duckdb.Error as error:
        connection.close()
        raise as_lake_error(error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _spill_folder() -> str:
    """Where DuckDB puts what its memory does not hold; it makes the folder when it must, and removes it at the end.

    By default that is .tmp in the working directory, with the same names in every process: connections that spill at
    the same time read and remove each other's files (duckdb/duckdb#15173).
    """
    return str(Path(tempfile.gettempdir()).absolute() / f"labelstream-spill-{uuid.uuid4().hex}")


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load a DuckDB extension from its Python package, or download it where that is allowed."""
    packaged = _packaged_extension(name)
    if packaged is not None:
        connection.load_extension(str(packaged))
        _checked.add(name)
        return
    try:
        connection.install_extension(name)
        connection.load_extension(name)
    except (duckdb.IOException, duckdb.HTTPException) as error:
        raise MissingDependency(f"duckdb-extension-{name.replace('_', '-')}", "cpu") from error


def _packaged_extension(name: str) -> Path | None:
    try:
        package = importlib.import_module(f"duckdb_extension_{name}")
    except ModuleNotFoundError:
        return None
    folder = Path(str(package.__file__)).parent / "extensions" / f"v{duckdb.__version__}"
    found = folder / f"{name}.duckdb_extension"
    return found if found.exists() else None


def _extensions(settings: LakeSettings) -> list[str]:
    catalogue = "sqlite_scanner" if settings.catalog_file else "postgres_scanner"
    return ["ducklake", catalogue, *object_storage.extensions(settings)]


def _prepare_folders(settings: LakeSettings, *, read_only: bool) -> None:
    file = settings.catalog_file
    if file is not None and file.is_dir():
        raise SettingsError(f"LABELSTREAM_LAKE_CATALOG={settings.catalog} is a folder; name a file in it")
    if read_only:
        if file is not None and not file.exists():
            raise SettingsError(
                f"there is no lake at LABELSTREAM_LAKE_CATALOG={settings.catalog} yet; start one with: labelstream run"
            )
        return
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    if not settings.is_remote:
        Path(settings.data_path).mkdir(parents=True, exist_ok=True)


def _attach_statement(settings: LakeSettings, *, read_only: bool) -> str:
    data_path = settings.data_path if settings.is_remote else os.fspath(Path(settings.data_path).absolute())
    catalogue, options = settings.catalog, [f"DATA_PATH {_quoted(data_path)}"]
    if read_only:
        options.append("READ_ONLY")
    if settings.catalog_file is not None:
        catalogue = f"sqlite:{settings.catalog_file}"
        options.append(f"META_BUSY_TIMEOUT {settings.busy_timeout_ms}")
        if not read_only:
            options.append("META_JOURNAL_MODE 'WAL'")  # readers and the writer do not wait for each other
    return f"ATTACH {_quoted(f'ducklake:{catalogue}')} AS lake ({', '.join(options)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
