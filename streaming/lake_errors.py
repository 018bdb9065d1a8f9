"""What DuckDB says as one of our errors: worth another try, or something to be set right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from labelstream.schemas.errors import LakeBusy, LakeUnavailable, SettingsError, TransientError

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
    "ssl error: unexpected eof",
    "ssl syscall error",
    "ssl connection has been closed",
    "could not receive data from server",
    "could not send data to server",
    "no connection to the server",
    "in a read-only transaction",  # a standby that has not been promoted yet
    "timed out",
    "timeout was reached",
)
# What is left of the error where the connection broke during the commit: DuckLake's own ROLLBACK, and no reason.
_BROKEN_COMMIT = re.compile(r'Failed to execute query "ROLLBACK":\s*$')
# An address of the object storage; the names in it must not decide anything.
_ADDRESS = re.compile(r"\b(?:https?|s3)://[^\s']*")
_REQUEST_FAILED = re.compile(r"\b(?:HTTP|IO) Error: .* error for HTTP [A-Z]+ to ")
_STATUS = re.compile(r"\b(?:HTTP|IO) Error: .*?\bHTTP (?:code )?([1-5]\d\d)\b")
# What S3 says with a status that usually means something else. Expired credentials are renewed (``StorageKey``);
# without a code DuckDB has tried again already.
_S3_TRIES_AGAIN = ("RequestTimeout", "ExpiredToken", "TokenRefreshRequired", "Request returned HTTP 400")
_TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 507}
_REFUSED = {400, 401, 403}
_ELSEWHERE = {301, 302, 307, 308}


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
    told = _ADDRESS.sub("", text)
    lower = told.lower()
    if status := _STATUS.search(told):
        return _of_object_storage(int(status[1]), text)
    if _REQUEST_FAILED.search(told):
        return _without_an_answer(text)
    if any(sign in lower for sign in _UNAVAILABLE) or _BROKEN_COMMIT.search(text):
        return LakeUnavailable(text)
    if any(sign in lower for sign in _BUSY):
        return LakeBusy(text)
    return SettingsError(
        f"the lake cannot be used; check LABELSTREAM_LAKE_CATALOG and LABELSTREAM_LAKE_DATA_PATH: {text}"
    )


def _of_object_storage(status: int, text: str) -> TransientError | SettingsError:
    """The answer of an object storage that is not the one hoped for."""
    if status in _TRY_AGAIN or any(sign in text for sign in _S3_TRIES_AGAIN):
        return LakeUnavailable(f"the object storage cannot answer now: {text}")
    if status in _REFUSED:
        return SettingsError(
            "the object storage refuses; check LABELSTREAM_LAKE_S3_KEY_ID and LABELSTREAM_LAKE_S3_SECRET (or, without "
            f"them, the environment's credentials), what the key may do, and LABELSTREAM_LAKE_S3_REGION: {text}"
        )
    if "NoSuchBucket" in text:
        return SettingsError(f"there is no such bucket; make it, or correct LABELSTREAM_LAKE_DATA_PATH: {text}")
    if status in _ELSEWHERE:
        return SettingsError(
            "the bucket is elsewhere; check LABELSTREAM_LAKE_S3_REGION, LABELSTREAM_LAKE_S3_ENDPOINT and "
            f"LABELSTREAM_LAKE_S3_URL_STYLE: {text}"
        )
    return SettingsError(
        "the object storage does not have or do what the lake needs; check LABELSTREAM_LAKE_DATA_PATH and "
        f"LABELSTREAM_LAKE_S3_ENDPOINT: {text}"
    )


def _without_an_answer(text: str) -> TransientError | SettingsError:
    """A request that nobody answered: it may have been the network."""
    settings = "LABELSTREAM_LAKE_S3_ENDPOINT and LABELSTREAM_LAKE_S3_USE_SSL"
    if "certificate" in text or "CA cert" in text:
        return SettingsError(
            f"the object storage's certificate is not trusted; check LABELSTREAM_LAKE_S3_CAFILE, {settings}: {text}"
        )
    return LakeUnavailable(f"the object storage does not answer; if it stays so, check {settings}: {text}")
