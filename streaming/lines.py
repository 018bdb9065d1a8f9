"""Files of one record a line, plain or gzip, read as they stream."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from labelstream.schemas.errors import SettingsError

_GZIP_MAGIC = b"\x1f\x8b"


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that hold more than white space.

    Args:
        path: The file; told to be gzip by its first bytes, not by its name.

    Yields:
        Line number from 1, and the line's bytes without its line end.

    Raises:
        SettingsError: The file cannot be opened, or its compressed data is damaged.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip(b"\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SettingsError(f"{path}: damaged after line {number} ({error}); fetch the file again") from error
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}; name a file that can be read") from error


def read_text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The same as text: UTF-8, with or without a byte order mark.

    Raises:
        SettingsError: As above, or a line is not UTF-8.
    """
    for number, line in read_lines(path):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise SettingsError(f"{path}: line {number} is not UTF-8; save the file as UTF-8") from error


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Opened once and looked into, because a pipe (``<(zcat log.gz)``) cannot be read from its beginning again."""
    with path.open("rb") as file:
        if file.peek(len(_GZIP_MAGIC))[: len(_GZIP_MAGIC)] != _GZIP_MAGIC:
            yield file
            return
        with gzip.open(file) as unpacked:
            yield cast("IO[bytes]", unpacked)
