"""Rows to train a ranker on, whole queries at a time: in memory, or in a Parquet file larger than memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.scale import Floats
from labelstream.training.durable_files import whole_file
from labelstream.training.features import FeatureTable
from labelstream.training.judgments import Integers, number_queries

QUERY, _LABEL = "query_number", "label"
_DESCRIPTION = b"labelstream"


class RankingRows(Protocol):
    """Labelled rows, those of a query next to each other."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features."""

    def __len__(self) -> int: ...

    def batches(self, rows: int) -> Iterator[RankingSet]:
        """All rows in order, about so many at a time; a query is never split over two batches."""


@dataclass(frozen=True, eq=False)
class RankingSet:
    """Labelled rows in memory.

    Attributes:
        features: Of each row.
        query_numbers: Which query a row belongs to, never falling; shape (rows,).
        labels: What is to be ranked high, in [0, 1]; float32, shape (rows,).
    """

    features: FeatureTable
    query_numbers: Integers
    labels: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not len(self.features) == len(self.query_numbers) == len(self.labels):
            raise ValueError(
                f"{len(self.features)} features, {len(self.query_numbers)} queries, {len(self.labels)} labels: "
                "there must be one of each for every row"
            )
        if (np.diff(self.query_numbers) < 0).any():
            raise ValueError("the rows of a query must stand together, query_numbers never falling")
        # XGBoost refuses NaN, but takes negative labels in silence.
        outside = np.flatnonzero(~((self.labels >= 0) & (self.labels <= 1)))
        if len(outside):
            label, row = self.labels[outside[0]], outside[0]
            raise SettingsError(f"label {label} of row {row} is not in [0, 1]; give an expected or polarized score")

    @classmethod
    def of(cls, features: FeatureTable, queries: Sequence[str], labels: Floats) -> Self:
        """Put the rows of each query together, and else leave them in their order.

        Args:
            features: Of each row, in any order.
            queries: Of each row; spellings that normalise to the same are one query.
            labels: In [0, 1]; shape (rows,).
        """
        numbers = number_queries(queries)
        order = np.argsort(numbers, kind="stable")
        return cls(features.select(order), numbers[order], np.asarray(labels, np.float32)[order])

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features."""
        return self.features.names

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, rows: int) -> Iterator[RankingSet]:
        """All rows in order, about so many at a time; a query is never split over two batches."""
        ends = np.append(np.flatnonzero(np.diff(self.query_numbers)) + 1, len(self))
        begin = 0
        while begin < len(self):
            whole = ends[(ends > begin) & (ends <= begin + rows)]
            end = int(whole[-1] if len(whole) else ends[ends > begin][0])
            yield self.select(np.arange(begin, end))
            begin = end

    def select(self, rows: Integers) -> RankingSet:
        """The rows at these positions; queries must still stand together."""
        return RankingSet(self.features.select(rows), self.query_numbers[rows], self.labels[rows])

    def contested(self) -> int:
        """Queries with different labels; only those can teach or measure an order."""
        starts = np.flatnonzero(np.diff(self.query_numbers, prepend=-1))
        if not len(starts):
            return 0
        least, most = (choose.reduceat(self.labels, starts) for choose in (np.minimum, np.maximum))
        return int(np.count_nonzero(least < most))


class RankingFile:
    """Labelled rows in a Parquet file that ``write_ranking_file`` has written.

    Args:
        path: The file.

    Raises:
        SettingsError: There is none, or it is another kind of file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            parquet = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise SettingsError(f"{path}: no Parquet file that can be read ({error}); write the rows again") from error
        with parquet:
            description = (parquet.schema_arrow.metadata or {}).get(_DESCRIPTION)
            if description is None:
                raise SettingsError(f"{path}: not written by write_ranking_file; write the rows again")
            self._rows = parquet.metadata.num_rows
        known: dict[str, Any] = json.loads(description)
        self.names = tuple(known["names"])

    def __len__(self) -> int:
        return int(self._rows)

    def batches(self, rows: int) -> Iterator[RankingSet]:
        """All rows in order, about so many at a time, or fewer: at most a row group is in memory."""
        with pq.ParquetFile(self.path) as parquet:
            for group in range(parquet.num_row_groups):
                yield from self._set(parquet.read_row_group(group)).batches(rows)

    def _set(self, table: pa.Table) -> RankingSet:
        values = np.stack([table[name].to_numpy() for name in self.names], axis=1)
        features = FeatureTable(self.names, np.asarray(values, np.float32))
        return RankingSet(features, table[QUERY].to_numpy(), table[_LABEL].to_numpy())


def write_ranking_file(path: Path, sets: Iterable[RankingSet], *, rows_per_group: int = 100_000) -> RankingFile:
    """Write rows as they come; readers see the whole file or the one before it.

    Args:
        path: Where to.
        sets: At least one; all of the same features, each with queries of its own.
        rows_per_group: About how many rows a reader has in memory at a time.

    Raises:
        SettingsError: No rows, features that differ between the sets, or a file that may not be written.
        TransientError: The disk is full, or does not answer.
    """
    with whole_file(path) as file:
        _write(file, sets, rows_per_group)
    return RankingFile(path)


def _write(file: Any, sets: Iterable[RankingSet], rows_per_group: int) -> None:
    batches = (batch for part in sets for batch in part.batches(rows_per_group))
    first = next(batches, None)
    if first is None:
        raise SettingsError("there are no rows to write; label some pairs first")
    queries = 0
    with pq.ParquetWriter(file, _schema(first), compression="zstd") as writer:
        for batch in itertools.chain([first], batches):
            if batch.names != first.names:
                raise SettingsError(f"rows of features {list(batch.names)} after {list(first.names)}; write one kind")
            # Numbers go on from set to set, so that no two queries share one.
            numbers = queries + np.unique(batch.query_numbers, return_inverse=True)[1]
            writer.write_table(pa.table([numbers, batch.labels, *batch.features.values.T], schema=writer.schema))
            queries = int(numbers[-1]) + 1


def _schema(rows: RankingSet) -> pa.Schema:
    fields = [(QUERY, pa.int64()), (_LABEL, pa.float32()), *((name, pa.float32()) for name in rows.names)]
    description = json.dumps({"names": rows.names})
    return pa.schema(fields, metadata={_DESCRIPTION: description.encode()})
