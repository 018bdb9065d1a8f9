"""What shoppers did, as counts by pair and position, read from the lake."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.errors import SettingsError

if TYPE_CHECKING:
    from labelstream.streaming.lake import Lake

Integers = NDArray[np.int64]

NO_POSITION = -1
ACTIONS = ("clicks", "add_to_carts", "purchases")


@dataclass(frozen=True, eq=False)
class EngagementCounts:
    """What was counted, by pair and position.

    Attributes:
        queries: Normalised query of each pair; shape (pairs,).
        product_ids: Product of each pair; shape (pairs,).
        pair: Which pair a cell belongs to; shape (cells,).
        position: Position as the log counts it, ``NO_POSITION`` where it gives none; shape (cells,).
        impressions: Shape (cells,).
        actions: Counts of ``ACTIONS``; shape (cells, 3).
    """

    queries: tuple[str, ...]
    product_ids: tuple[str, ...]
    pair: Integers
    position: Integers
    impressions: Integers
    actions: Integers


def read_counts(
    lake: Lake, until: date | None = None, since: date | None = None, *, snapshot: int | None = None
) -> EngagementCounts:
    """Add up the lake's counts.

    Args:
        lake: Open, read-only or not.
        until: Only days before this one (in UTC), so that nothing leaks from an evaluation window; None for all.
        since: Only this day and those after it; None for all.
        snapshot: The state of the lake to read; None for the newest.

    Returns:
        Pairs ordered by query and product id, cells by pair and position.

    Raises:
        SettingsError: Nothing was counted in these days, or the lake does not have this snapshot.
        TransientError: The lake is locked or its storage does not answer.
    """
    table = lake.execute(_statement(lake, snapshot), [since or date.min, until or date.max]).to_arrow_table()
    if not table.num_rows:
        days = f"from {since or 'the beginning'} until before {until or 'now'}"
        raise SettingsError(f"the lake has no engagement {days}; take other days, or stream a search log first")
    pair = table["pair"].to_numpy()
    names = table.select(["query", "product_id"]).take(np.unique(pair, return_index=True)[1])
    queries, product_ids = (tuple(names[name].to_pylist()) for name in names.column_names)
    actions = np.stack([table[name].to_numpy() for name in ACTIONS], axis=1)
    position, impressions = (table[name].to_numpy() for name in ("position", "impressions"))
    return EngagementCounts(queries, product_ids, pair, position, impressions, actions)


def _statement(lake: Lake, snapshot: int | None) -> str:
    """The increments themselves are read; they are added up here, by position."""
    if snapshot is not None and not lake.oldest_snapshot <= snapshot <= lake.snapshot:
        kept = f"{lake.oldest_snapshot} to {lake.snapshot}"
        raise SettingsError(f"snapshot {snapshot}: the lake has {kept}; name one of these, or leave it out")
    version = "" if snapshot is None else f" AT (VERSION => {int(snapshot)})"
    sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in ("impressions", *ACTIONS))
    return f"""
        WITH cells AS (
            SELECT query, product_id, coalesce("position", {NO_POSITION})::BIGINT AS "position", {sums}
            FROM engagement{version} WHERE day >= ? AND day < ? GROUP BY ALL
        )
        SELECT *, dense_rank() OVER (ORDER BY query, product_id) - 1 AS pair FROM cells ORDER BY pair, "position"
    """
