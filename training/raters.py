"""What each single rater said of the pairs that are judged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.scale import Floats
from labelstream.training.delimited import Row, read_table
from labelstream.training.load_report import LoadReport

_RATER = re.compile(r"^agent_\d+_rating$")
_FINAL = "final_rating"


def as_rating(text: str) -> float:
    """The number that a field holds, or NaN."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_raters(
    path: Path,
    positions: Mapping[tuple[str, str], int],
    adjudicated: Floats,
    *,
    highest_rating: float,
    report: LoadReport,
) -> Floats:
    """Read ``query,docid,agent_1_rating,…``, any number of raters, with or without ``final_rating``.

    Args:
        path: The file, plain or gzip.
        positions: Where the pair of a normalised query and product id stands.
        adjudicated: The rating that counts for each pair; shape (pairs,).
        highest_rating: The best rating that can be given; the lowest is 0.
        report: Is told what was left out and why.

    Returns:
        Shape (pairs, raters), the raters in the order of their columns, NaN where there is no rating.

    Raises:
        SettingsError: The file cannot be read or lacks a column.
    """
    table = read_table(
        path, ("query", "docid"), on_malformed=lambda line: report.raters_malformed_rows.add(f"line {line}")
    )
    raters = [name for name in table.columns if _RATER.match(name)]
    if not raters:
        raise SettingsError(f"{path}: no column agent_1_rating; name each rater's column agent_<number>_rating")
    ratings = np.full((len(positions), len(raters)), np.nan)
    seen: set[int] = set()
    for row in table.rows:
        position = positions.get((normalise_query(row.values["query"]), row.values["docid"]))
        where = f"line {row.line}"
        if position is None:
            report.raters_unmatched.add(where)
        elif position in seen:
            report.raters_repeated.add(where)
        else:
            seen.add(position)
            ratings[position] = [_rating(row, name, highest_rating, report) for name in raters]
            _compare(row, adjudicated[position], report)
    return ratings


def _rating(row: Row, column: str, highest_rating: float, report: LoadReport) -> float:
    written = row.values[column]
    rating = as_rating(written)
    if 0 <= rating <= highest_rating:
        return rating
    if written:
        report.raters_bad_ratings.add(f"line {row.line}, {column}: {written!r}")
    return math.nan


def _compare(row: Row, adjudicated: float, report: LoadReport) -> None:
    final = as_rating(row.values.get(_FINAL, ""))
    if not math.isnan(final) and final != adjudicated:
        report.raters_adjudicated_differently.add(f"line {row.line}: {final:g}, judged {adjudicated:g}")
