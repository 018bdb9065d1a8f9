"""The lake's files on object storage that speaks S3: how DuckDB reaches it, and whether it can."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import duckdb

from labelstream.schemas.errors import LakeUnavailable, SettingsError
from labelstream.streaming.lake_errors import lake_errors

if TYPE_CHECKING:
    from labelstream.schemas.settings import LakeSettings

# An object storage that is silent must be an error before ``stream.hang_s`` makes the Writer count as hanging. DuckDB
# gives a write 4 seconds more than its timeout, and sends it again when it closes the file: 2 times 3 tries here. Its
# defaults (30 seconds, 3 retries) would be silent for more than four minutes. The waits between tries, 0.5 and 2
# seconds, are for those who read: nobody repeats a query of theirs, while a commit is repeated anyway.
_PATIENCE = {"http_timeout": 10, "http_retries": 2, "http_retry_wait_ms": 500, "http_retry_backoff": 4}
# Whoever lends credentials has the next ones at least five minutes before the old ones end.
_RENEW_S = 240.0
_CHECK = "labelstream-check.txt"


def extensions(settings: LakeSettings) -> list[str]:
    """DuckDB's extensions that the files need."""
    if not settings.is_remote:
        return []
    return ["httpfs"] if settings.s3_key_id else ["httpfs", "aws"]


def prepare(connection: duckdb.DuckDBPyConnection, settings: LakeSettings) -> None:
    """Tell DuckDB where the object storage is and with which key to go there; nobody is asked yet.

    Raises:
        SettingsError: There is no key, neither in the settings nor in the environment.
    """
    if not settings.is_remote:
        return
    for name, value in _PATIENCE.items():
        connection.execute(f"SET GLOBAL {name} = {value}")  # DuckLake has connections of its own
    if settings.s3_cafile:
        connection.execute("SET GLOBAL ca_cert_file = ?", [str(settings.s3_cafile.absolute())])
    try:
        _make_secret(connection, settings)
    except duckdb.Error as error:
        raise SettingsError(
            "there are no credentials for the object storage; set LABELSTREAM_LAKE_S3_KEY_ID and "
            f"LABELSTREAM_LAKE_S3_SECRET, or give the environment some: {_line(error)}"
        ) from error


def check(connection: duckdb.DuckDBPyConnection, settings: LakeSettings) -> None:
    """Write a small object and read it, so that a wrong bucket or key is found out before a catalogue is made for it.

    Raises:
        SettingsError: The object storage refuses; the message names the settings.
        LakeUnavailable: It does not answer.
    """
    if not settings.is_remote:
        return
    place = f"{settings.data_path.rstrip('/')}/{_CHECK}"
    with lake_errors():
        connection.execute(f"COPY (SELECT 'labelstream can write here') TO '{place}' (FORMAT csv, HEADER false)")
        connection.execute("SELECT content FROM read_text(?)", [place]).fetchall()


def _make_secret(connection: duckdb.DuckDBPyConnection, settings: LakeSettings) -> None:
    style = settings.s3_url_style or ("path" if settings.s3_endpoint else "vhost")
    values = {
        "KEY_ID": settings.s3_key_id and settings.s3_key_id.get_secret_value(),
        "SECRET": settings.s3_secret and settings.s3_secret.get_secret_value(),
        "ENDPOINT": settings.s3_endpoint,
        "REGION": settings.s3_region,
        "URL_STYLE": style,
    }
    given = {name: value for name, value in values.items() if value}
    options = [f"{name} ?" for name in given]  # as parameters, so that no error can quote them
    if not settings.s3_key_id:  # the chain of the environment is asked: variables, web identity, instance role
        options += ["PROVIDER credential_chain"]
    options.append(f"USE_SSL {str(settings.s3_use_ssl).lower()}")
    statement = f"CREATE OR REPLACE SECRET lake_storage (TYPE s3, {', '.join(options)})"
    connection.execute(statement, list(given.values()))


class StorageKey:
    """Renews credentials that the environment has lent: those of a role end after an hour.

    DuckDB itself asks for new ones only where it asks for the length of a file, which DuckLake knows and never asks.

    Args:
        connection: For which ``prepare`` has just been called.
        settings: Of the lake.
        clock: Seconds, for tests.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: LakeSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._settings, self._clock = connection, settings, clock
        self._lent = settings.is_remote and not settings.s3_key_id
        self._made = clock()

    def renew(self) -> None:
        """Ask the environment again, if the last time is minutes ago.

        Raises:
            LakeUnavailable: It has none now.
        """
        if not self._lent or self._clock() - self._made < _RENEW_S:
            return
        try:
            _make_secret(self._connection, self._settings)
        except duckdb.Error as error:
            raise LakeUnavailable(f"the environment has no credentials now: {_line(error)}") from error
        self._made = self._clock()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
