"""Files of judgements cut into files to train on and to measure by, a query wholly in one of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.training.delimited import read_table
from labelstream.training.durable_files import whole_file
from labelstream.training.splits import Split

TRAINING, TEST = "training", "test"


class JudgementRows(NamedTuple):
    """Rows of a file as they stand in it.

    Attributes:
        columns: The header.
        rows: A field for each column.
        queries: Of each row.
        malformed: How many rows had another number of fields and are left out.
    """

    columns: tuple[str, ...]
    rows: list[list[str]]
    queries: list[str]
    malformed: int


class SplitQueries(NamedTuple):
    """Number of different queries to train on, and to measure by."""

    training: int
    test: int


def read_rows(path: Path) -> JudgementRows:
    """Read judgements or what each rater said: ``query,docid,…``, plain or gzip.

    Raises:
        SettingsError: The file cannot be read, lacks a column, or has no rows.
    """
    malformed: list[int] = []
    table = read_table(path, ("query", "docid"), on_malformed=malformed.append)
    rows = [[row.values[name] for name in table.columns] for row in table.rows]
    if not rows:
        raise SettingsError(f"{path}: no rows; name a file of judgements")
    place = table.columns.index("query")
    return JudgementRows(table.columns, rows, [row[place] for row in rows], len(malformed))


def write_split(
    folder: Path, split: Split, judgements: JudgementRows, raters: JudgementRows | None = None
) -> SplitQueries:
    """Write ``training.csv`` and ``test.csv``, and of the raters' rows ``training-raters.csv`` and ``test-raters.csv``.

    Args:
        folder: Made where it is not there.
        split: Rows of the judgements to train on and to measure by.
        judgements: All of them.
        raters: What each rater said; rows of queries that are not judged are left out.
    """
    found = [{normalise_query(judgements.queries[row]) for row in part} for part in split]
    for name, queries in zip((TRAINING, TEST), found, strict=True):
        _write(folder / f"{name}.csv", judgements, queries)
        if raters is not None:
            _write(folder / f"{name}-raters.csv", raters, queries)
    return SplitQueries(*map(len, found))


def _write(path: Path, source: JudgementRows, queries: Set[str]) -> None:
    """Write the rows of some queries, in their order."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(source.columns)
    writer.writerows(
        row for row, query in zip(source.rows, source.queries, strict=True) if normalise_query(query) in queries
    )
    with whole_file(path) as file:
        file.write(text.getvalue().encode())
