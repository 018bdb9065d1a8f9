"""What shoppers did until a day, in memory: the ranker's history features without a query to the lake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelstream.schemas.keys import normalise_query
from labelstream.streaming.lake import Lake
from labelstream.training.features import ACTIONS, EngagementHistory

_UNKNOWN = -1


class PastEngagement:
    """Counts by pair and by product; gives what ``TrainingSnapshot.history`` gives, in microseconds.

    Memory: 36 bytes a pair of query and product, and the texts of the different queries and product ids.

    Args:
        rows: Columns ``query``, ``product_id`` and ``ACTIONS``; each pair once, ordered by query.
        until: The first day, in UTC, that is not counted.
    """

    def __init__(self, rows: pa.Table, until: date) -> None:
        self._until = until
        queries, query_numbers = _numbered(rows.column("query"))
        products, product_numbers = _numbered(rows.column("product_id"))
        self._queries = {query: number for number, query in enumerate(queries)}
        self._products = {product: number for number, product in enumerate(products)}
        counts = np.stack([rows.column(action).to_numpy() for action in ACTIONS], axis=1)
        order = np.lexsort((product_numbers, query_numbers))
        self._starts = np.searchsorted(query_numbers, np.arange(len(queries) + 1))
        self._product_of = product_numbers[order]
        # One row of zeros comes last in both: it is what nobody has seen, so _UNKNOWN finds it.
        self._pairs = np.concatenate([counts[order], np.zeros((1, len(ACTIONS)), np.int64)])
        self._totals = np.zeros((len(products) + 1, len(ACTIONS)), np.int64)
        np.add.at(self._totals, product_numbers, counts)

    @classmethod
    def read(cls, lake: Lake, snapshot: int, until: date) -> Self:
        """Read all engagement of a snapshot before a day."""
        sums = ", ".join(f"sum({action})::BIGINT AS {action}" for action in ACTIONS)
        statement = f"""
            SELECT query, product_id, {sums} FROM engagement AT (VERSION => {int(snapshot)})
            WHERE day < ? GROUP BY ALL ORDER BY query"""
        return cls(lake.execute(statement, [until]).to_arrow_table(), until)

    @classmethod
    def nothing(cls) -> Self:
        """Nobody has done anything."""
        schema = pa.schema(
            [
                ("query", pa.string()),
                ("product_id", pa.string()),
                *((action, pa.int64()) for action in ACTIONS),
            ]
        )
        return cls(schema.empty_table(), date.min)

    def __len__(self) -> int:
        return len(self._product_of)

    def history(self, query: str, product_ids: Sequence[str]) -> EngagementHistory:
        """The history of the pairs of one query.

        Args:
            query: In any spelling that normalises to the same.
            product_ids: Known or not.
        """
        products = np.array([self._products.get(product_id, _UNKNOWN) for product_id in product_ids], np.int64)
        pairs = self._find(self._queries.get(normalise_query(query)), products)
        return EngagementHistory(self._until, self._pairs[pairs], self._totals[products])

    def _find(self, query: int | None, products: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the pairs, ``_UNKNOWN`` where there is none."""
        if query is None:
            return np.full(len(products), _UNKNOWN)
        first, end = self._starts[query], self._starts[query + 1]
        mine = self._product_of[first:end]
        places = np.minimum(np.searchsorted(mine, products), len(mine) - 1)
        return np.where(mine[places] == products, first + places, _UNKNOWN)


def _numbered(texts: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int32]]:
    """Different texts in the order in which they first come, and each one's number."""
    encoded = texts.dictionary_encode().unify_dictionaries()
    chunks = [chunk.indices.to_numpy() for chunk in encoded.chunks]
    texts_by_number: list[str] = encoded.chunk(0).dictionary.to_pylist() if chunks else []
    return texts_by_number, np.concatenate([np.zeros(0, np.int32), *chunks])
