"""One batch on its way into the lake: rows, offsets and counts, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from labelstream.schemas.tables import CONSUMED, LABELS, Table


class OffsetRange(NamedTuple):
    """Offsets ``first`` to ``next - 1`` of one partition."""

    topic: str
    partition: int
    first: int
    next: int


@dataclass(frozen=True)
class Commit:
    """What one batch adds to the lake.

    Attributes:
        batch_id: Unique; tells a repeated commit from a second one.
        ranges: What was consumed; each must begin where the lake left off.
        tables: Rows to append, by table name.
        deleted_products: Product ids with a tombstone.
        resolved: Rows of ``waiting`` (topic, partition, offset) that this batch takes off the list.
        label_ranges: For each row of ``labels``, the row of ``consumed`` that counts it; empty for labels that
            somebody asked for, which consume nothing.
    """

    batch_id: str
    ranges: tuple[OffsetRange, ...]
    tables: Mapping[str, pa.Table]
    deleted_products: Sequence[str] = ()
    resolved: Sequence[tuple[str, int, int]] = ()
    label_ranges: Sequence[int] = field(default_factory=tuple)

    def without_labels(self, duplicates: set[int]) -> Commit:
        """The same commit without some rows of ``labels``; what they counted as labelled becomes cached."""
        if not duplicates:
            return self
        labels = self.tables[LABELS.name]
        kept = [row for row in range(labels.num_rows) if row not in duplicates]
        tables = {**self.tables, LABELS.name: labels.take(pa.array(kept, pa.int64()))}  # an empty list has no type
        if self.label_ranges:
            tables[CONSUMED.name] = self._recounted(duplicates)
        return Commit(
            self.batch_id,
            self.ranges,
            tables,
            self.deleted_products,
            self.resolved,
            [self.label_ranges[row] for row in kept] if self.label_ranges else (),
        )

    def _recounted(self, duplicates: set[int]) -> pa.Table:
        counts = self.tables[CONSUMED.name].to_pylist()
        for row in duplicates:
            counts[self.label_ranges[row]]["labelled"] -= 1
            counts[self.label_ranges[row]]["cached"] += 1
        return rows(CONSUMED, counts)


class Receipt(NamedTuple):
    """The lake's answer to a commit.

    Attributes:
        snapshot: The lake's snapshot after the commit.
        repeated: The batch had been committed before; nothing was added.
        duplicates: Labels that somebody else had written first and that were left out.
    """

    snapshot: int
    repeated: bool
    duplicates: int


def rows(table: Table, records: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of exactly the table's schema."""
    return pa.Table.from_pylist(list(records), schema=table.schema)
