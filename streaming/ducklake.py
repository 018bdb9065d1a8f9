"""Open a DuckLake: extensions, catalogue, object storage."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from labelstream.schemas.errors import LakeBusy, LakeUnavailable, MissingDependency, SettingsError, TransientError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from labelstream.schemas.settings import LakeSettings

_BUSY = (
    "database is locked",
    "busy",
    "conflict",
    "retry",
    "another transaction",
    "could not serialize",
    "duplicate key value",
    "lock timeout",
    "deadlock detected",  # PostgreSQL has rolled one of two back
)
# What a catalogue says of a statement comes after all of its text, rows included, which must not decide anything.
_STATEMENT = re.compile(r'Failed to execute query ".*": ')
_UNAVAILABLE = (
    "no space left",
    "disk full",
    "database or disk is full",
    "disk i/o error",
    "quota exceeded",
    "connection refused",
    "could not connect",
    "unable to connect",
    "terminating connection",
    "the database system is",  # starting up, shutting down, in recovery
    "too many clients",
    "server closed the connection",
    "timed out",
    "timeout was reached",
)


def connect(settings: LakeSettings, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection whose current schema is the lake.

    Args:
        settings: Where the catalogue and the files are.
        read_only: Refuse writes; the lake must exist.

    Raises:
        MissingDependency: DuckLake's extension is neither installed as a package nor to be had online.
        SettingsError: The catalogue or the data path does not fit.
        TransientError: The catalogue is locked or does not answer.
    """
    _prepare_folders(settings, read_only=read_only)
    with lake_errors():
        connection = duckdb.connect(config={"memory_limit": settings.memory_limit, "threads": settings.threads})
    try:
        connection.execute("SET preserve_insertion_order = true")
        connection.execute("SET TimeZone = 'UTC'")
        load_extension(connection, "ducklake")
        _load_storage(connection, settings)
        connection.execute(_attach_statement(settings, read_only=read_only))
        connection.execute("USE lake")
    except duckdb.Error as error:
        connection.close()
        raise as_lake_error(error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load a DuckDB extension from its Python package, or download it where that is allowed."""
    packaged = _packaged_extension(name)
    if packaged is not None:
        connection.load_extension(str(packaged))
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


def _load_storage(connection: duckdb.DuckDBPyConnection, settings: LakeSettings) -> None:
    kind = settings.catalog.partition(":")[0]
    load_extension(connection, {"sqlite": "sqlite_scanner", "postgres": "postgres_scanner"}[kind])
    if settings.data_path.startswith("s3://"):
        load_extension(connection, "httpfs")
        connection.execute(_s3_secret_statement(settings))


def _prepare_folders(settings: LakeSettings, *, read_only: bool) -> None:
    kind, _, target = settings.catalog.partition(":")
    catalogue = Path(target).absolute()
    if read_only:
        if kind == "sqlite" and not catalogue.exists():
            raise SettingsError(
                f"there is no lake at LABELSTREAM_LAKE_CATALOG={settings.catalog} yet; start one with: labelstream run"
            )
        return
    if kind == "sqlite":
        catalogue.parent.mkdir(parents=True, exist_ok=True)
    if "://" not in settings.data_path:
        Path(settings.data_path).mkdir(parents=True, exist_ok=True)


def _attach_statement(settings: LakeSettings, *, read_only: bool) -> str:
    kind, _, target = settings.catalog.partition(":")
    data_path = settings.data_path if "://" in settings.data_path else os.fspath(Path(settings.data_path).absolute())
    options = [f"DATA_PATH {_quoted(data_path)}"]
    if read_only:
        options.append("READ_ONLY")
    elif kind == "sqlite":
        options += ["META_JOURNAL_MODE 'WAL'"]  # readers and the writer do not wait for each other
    if kind == "sqlite":
        target = os.fspath(Path(target).absolute())
        options += [f"META_BUSY_TIMEOUT {settings.busy_timeout_ms}"]
    return f"ATTACH {_quoted(f'ducklake:{kind}:{target}')} AS lake ({', '.join(options)})"


def _s3_secret_statement(settings: LakeSettings) -> str:
    values = {
        "KEY_ID": _revealed(settings.s3_key_id),
        "SECRET": _revealed(settings.s3_secret),
        "ENDPOINT": settings.s3_endpoint,
        "REGION": settings.s3_region,
    }
    given = [f"{name} {_quoted(value)}" for name, value in values.items() if value]
    # Without a key the chain of the environment (variables, instance role) is asked.
    provider = [] if settings.s3_key_id else ["PROVIDER credential_chain"]
    ssl = f"USE_SSL {str(settings.s3_use_ssl).lower()}"
    return f"CREATE SECRET lake_storage (TYPE s3, {', '.join([*provider, *given, ssl])})"


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def lake_errors() -> Iterator[None]:
    """Around what asks DuckDB or reads its answer: rows are still being computed while they are fetched.

    Raises:
        TransientError: Locked, lost a race, or storage trouble.
        SettingsError: Anything else that goes wrong in DuckDB.
    """
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:  # Arrow has DuckDB's text in an error of its own
        raise as_lake_error(error) from error


def as_lake_error(error: Exception) -> TransientError | SettingsError:
    """DuckDB's error as one of ours, by what its text says."""
    text = _STATEMENT.sub("", " ".join(str(error).split()))
    lower = text.lower()
    if any(sign in lower for sign in _UNAVAILABLE):
        return LakeUnavailable(text)
    if any(sign in lower for sign in _BUSY):
        return LakeBusy(text)
    return SettingsError(
        f"the lake cannot be used; check LABELSTREAM_LAKE_CATALOG and LABELSTREAM_LAKE_DATA_PATH: {text}"
    )
