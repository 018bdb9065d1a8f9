"""Comma- and tab-separated files of judgements, read as they stream, with an error that names file, line and column."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from labelstream.schemas.errors import SettingsError
from labelstream.streaming.lines import read_text_lines

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


class Row(NamedTuple):
    """One record.

    Attributes:
        line: Number of the line that it ends on, from 1.
        values: Its fields by column, white space around them removed.
    """

    line: int
    values: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A file whose header has been read.

    Attributes:
        columns: Names of the columns, in file order.
        rows: The records, once; one whose number of fields is not the header's is told and left out.
    """

    columns: tuple[str, ...]
    rows: Iterator[Row]


def read_table(
    path: Path, required: tuple[str, ...], *, on_malformed: Callable[[int], None], delimiter: str = ","
) -> Table:
    """Open a file with a header, plain or gzip, UTF-8 with or without a byte order mark.

    Args:
        path: The file.
        required: Columns that must be there; others may be.
        on_malformed: Told the line of each record that has more or fewer fields than the header.
        delimiter: Between two fields; a field with one in it stands in double quotes.

    Raises:
        SettingsError: The file cannot be read, is empty, lacks a column, or (while the rows are read) is not UTF-8
            or has a quote that does not end.
    """
    lines = _Lines(path)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns = tuple(name.strip() for name in _next_record(reader, lines) or ())
    if not columns:
        raise SettingsError(f"{path}: the file is empty; name a file with the columns {', '.join(required)}")
    if missing := [name for name in required if name not in columns]:
        said = f"no column {', '.join(missing)}; its header says {', '.join(columns)}"
        raise SettingsError(f"{path}: {said}; {_remedy(columns[0], required, delimiter)}")
    return Table(columns, _rows(reader, lines, columns, on_malformed))


def _remedy(first: str, required: tuple[str, ...], delimiter: str) -> str:
    """What to do about a header that lacks columns; its first one holds all of it where fields end elsewhere."""
    for mark, name in _DELIMITERS.items():
        if mark != delimiter and mark in first:
            return f"separate the fields by {_DELIMITERS[delimiter]}, not by {name}"
    return f"name the columns {', '.join(required)}"


class _Lines:
    """Lines of text that know where they are: csv.reader counts only those that it is given."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        self._lines = read_text_lines(path)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, text = next(self._lines)
        return text + "\n"


def _next_record(reader: Iterator[list[str]], lines: _Lines) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        remedy = "double the quotes inside a quoted field"
        raise SettingsError(f"{lines.path}: line {lines.number}: {error}; {remedy}") from error


def _rows(
    reader: Iterator[list[str]], lines: _Lines, columns: tuple[str, ...], on_malformed: Callable[[int], None]
) -> Iterator[Row]:
    while (record := _next_record(reader, lines)) is not None:
        if len(record) == len(columns):
            yield Row(lines.number, {name: field.strip() for name, field in zip(columns, record, strict=True)})
        else:
            on_malformed(lines.number)
