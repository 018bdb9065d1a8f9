"""How the command line talks: results to standard output, everything else to standard error."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from labelstream.printable import as_cell, printable
from labelstream.schemas.settings import PREFIX

LOG_FORMAT = f"{PREFIX}OBSERVABILITY_LOG_FORMAT"
NEVER_WRAPPED = 1_000_000
PIPED_WIDTH = 140  # a pipe has no width; rich would assume 80 columns

# What is printed is a file's name or comes from a log: [red] and :car: in it are what they are.
_VERBATIM: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
out = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, **_VERBATIM)
err = Console(stderr=True, **_VERBATIM)
messages = logging.getLogger("labelstream.command")  # what the commands tell people, where logs are JSON


def set_up_logging(*, verbose: bool) -> None:
    """Warnings by default, our own information with ``--verbose``.

    With LABELSTREAM_OBSERVABILITY_LOG_FORMAT=json, everything on standard error is a JSON object a line.
    """
    # Not from the settings: a bad one must not keep us from saying so. The commands load them, and complain.
    as_json = os.environ.get(LOG_FORMAT) == "json"
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[_json_handler() if as_json else _handler()], force=True
    )
    logging.getLogger("labelstream").setLevel(logging.INFO if verbose else logging.WARNING)
    messages.setLevel(logging.INFO)
    # kafka-python warns of every connection that it will simply open again.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    if as_json:
        err.file, err.width = _LogLines(), NEVER_WRAPPED


def _handler() -> logging.Handler:
    return RichHandler(console=err, show_path=False)


def _json_handler() -> logging.Handler:
    from labelstream.actors.endpoint.logs import json_formatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(json_formatter())
    return handler


class _LogLines(io.StringIO):
    """Makes a log line of every line that is printed."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(None, map(str.rstrip, lines)):
            messages.info("%s", line)
        return len(text)


def print_error(error: Exception) -> None:
    """What ended a command, on one line."""
    if isinstance(err.file, _LogLines):
        messages.error("%s", error, extra={"error": type(error).__name__})
    else:
        # Uncut: the remedy comes last.
        err.print(Text.assemble((type(error).__name__, "bold red"), f": {printable(error)}"), soft_wrap=True)


def progress_bar() -> Progress:
    """The one look of all progress bars."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=False)),  # gives way before the figures do
        console=err,
        transient=False,
        disable=isinstance(err.file, _LogLines),
    )


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table for people; control characters from the data are made visible."""
    table = Table(header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(as_cell(cell) for cell in row))
    _print_titled(title, table)


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, as_cell(value))
    _print_titled(title, table)


def _print_titled(title: str, table: Table) -> None:
    if title:  # a line of its own: as part of a narrow table it would be broken in the middle of a word
        out.print(Text(printable(title), "italic"), soft_wrap=True)
    out.print(table)
