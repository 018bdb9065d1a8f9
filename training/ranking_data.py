"""A training set for the ranker, read from one snapshot of the lake, so that a run can be repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product
from labelstream.training.features import ACTIONS, EngagementHistory
from labelstream.training.judgments import Integers

if TYPE_CHECKING:
    from labelstream.streaming.lake import Lake

_FEWEST_QUERIES = 2

_LABEL = (
    "expected_score", "probabilities", "level", "polarized_score", "polarization_alpha", "polarization_beta",
    "cross_encoder_score", "model_version", "scale_version",
)  # fmt: skip
_PRODUCT = ("title", "brand", "category", "description", "attributes", "price")
PRODUCT_COLUMNS = ("product_id", *_PRODUCT)


class TrainingCounts(NamedTuple):
    """What a snapshot holds.

    Attributes:
        pairs: Labelled pairs whose product is in the catalogue: the rows of the training set.
        queries: Different queries among them.
        unknown_products: Labelled pairs whose product the catalogue has lost; they are left out.
    """

    pairs: int
    queries: int
    unknown_products: int


class TrainingSnapshot:
    """One state of the lake, seen as a training set.

    Content labels and products are those of the snapshot. Of engagement only the days before ``until`` are seen: what
    shoppers did in the evaluation window, and so what the ranker is measured by, can reach no feature.

    Args:
        lake: Open, read-only or not; must stay open.
        until: The first day, in UTC, whose engagement does not count.
        snapshot: Which state; None for the newest, whose number is then kept.

    Raises:
        SettingsError: The lake does not have this snapshot.
        TransientError: The lake is locked or its storage does not answer.
    """

    def __init__(self, lake: Lake, *, until: date, snapshot: int | None = None) -> None:
        self._lake = lake
        self.until = until
        self.snapshot = lake.known_snapshot(snapshot)

    def count(self) -> TrainingCounts:
        """How much there is, without reading it.

        Raises:
            SettingsError: No labelled pair, or pairs of one query only.
        """
        statement = f"""
            SELECT count(p.product_id), count(DISTINCT l.query) FILTER (p.product_id IS NOT NULL),
                   count(*) FILTER (p.product_id IS NULL)
            FROM {self._at("labels_latest")} l LEFT JOIN {self._at("products")} p USING (product_id)"""
        try:
            counts = TrainingCounts(*self._lake.query(statement)[0])
        except SettingsError as error:
            if "does not exist at version" not in str(error):
                raise
            counts = TrainingCounts(0, 0, 0)  # a snapshot from before the lake had tables
        self._check(counts)
        return counts

    def _check(self, counts: TrainingCounts) -> None:
        if not counts.pairs:
            lost = f" ({counts.unknown_products} have lost their product)" if counts.unknown_products else ""
            remedy = "stream a search log and the catalogue first, or name a later snapshot"
            raise SettingsError(f"snapshot {self.snapshot} holds no labelled pair{lost}; {remedy}")
        if counts.queries < _FEWEST_QUERIES:
            raise SettingsError(
                f"snapshot {self.snapshot} holds labelled pairs of one query only; a ranker is held to queries that it "
                f"was not trained on, so it takes at least {_FEWEST_QUERIES}"
            )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The training set, a bounded number of rows at a time, ordered by query and product id.

        Columns: ``query, product_id``; the label (``expected_score, probabilities, level``, what it was polarized with,
        ``cross_encoder_score``, versions); the product's ``title, brand, category, description, attributes`` (JSON)
        and ``price``; ``pair_*`` and ``product_*`` counts of impressions, clicks, add_to_carts and purchases before
        ``until``, 0 where there are none.

        Raises:
            SettingsError: See :meth:`count`.
        """
        self.count()
        yield from self._lake.arrow_batches(self._statement(), [self.until])

    def whole_queries(self) -> Iterator[pa.Table]:
        """All of :meth:`batches`, cut so that the pairs of a query lie in one table."""
        left: pa.Table | None = None
        for batch in self.batches():
            if not batch.num_rows:
                continue
            read = pa.Table.from_batches([batch])
            rows = read if left is None else pa.concat_tables([left, read])
            last = pc.index(rows["query"], rows["query"][-1]).as_py()  # more of this query may come
            if last:
                yield rows.slice(0, last)
            left = rows.slice(last)
        if left is not None:
            yield left

    def products(self) -> Iterator[Product]:
        """The catalogue of the snapshot, ordered by product id."""
        statement = f"SELECT {', '.join(PRODUCT_COLUMNS)} FROM {self._at('products')} ORDER BY product_id"
        for batch in self._lake.arrow_batches(statement):
            yield from map(product_of, batch.to_pylist())

    def history(self, queries: Sequence[str], product_ids: Sequence[str]) -> EngagementHistory:
        """Engagement before ``until`` of any pairs, labelled or not.

        Args:
            queries: In any spelling that normalises to the same.
            product_ids: One for each query.
        """
        if not len(queries):
            return EngagementHistory(self.until, np.zeros((0, len(ACTIONS)), np.int64), np.zeros((0, 4), np.int64))
        statement = f"""
            WITH {self._history()},
            asked AS (SELECT unnest(?) AS query, unnest(?) AS product_id, unnest(range(?)) AS pair)
            SELECT {_HISTORY_COLUMNS} FROM asked {_HISTORY_JOINS} ORDER BY pair"""
        normalised = {query: normalise_query(query) for query in dict.fromkeys(queries)}
        asked = [[normalised[query] for query in queries], list(product_ids), len(queries)]
        return history_of(self._lake.execute(statement, [self.until, *asked]).to_arrow_table(), self.until)

    def _at(self, table: str) -> str:
        """A table or view as it was; a view hands the version on to its tables."""
        return f"(SELECT * FROM {table} AT (VERSION => {int(self.snapshot)}))"

    def _history(self) -> str:
        sums = ", ".join(f"sum({action})::BIGINT AS {action}" for action in ACTIONS)
        return f"""
            of_pair AS (SELECT query, product_id, {sums} FROM {self._at("engagement")} WHERE day < ? GROUP BY ALL),
            of_product AS (SELECT product_id, {sums} FROM of_pair GROUP BY ALL)"""

    def _statement(self) -> str:
        label = ", ".join(f"asked.{name}" for name in ("query", "product_id", *_LABEL))
        product = ", ".join(f"p.{name}" for name in _PRODUCT)
        return f"""
            WITH {self._history()},
            asked AS {self._at("labels_latest")}
            SELECT {label}, {product}, {_HISTORY_COLUMNS}
            FROM asked JOIN {self._at("products")} p USING (product_id) {_HISTORY_JOINS}
            ORDER BY asked.query, asked.product_id"""


_HISTORY_JOINS = """
    LEFT JOIN of_pair ON of_pair.query = asked.query AND of_pair.product_id = asked.product_id
    LEFT JOIN of_product ON of_product.product_id = asked.product_id"""
_HISTORY_COLUMNS = ", ".join(
    f"coalesce(of_{name}.{action}, 0)::BIGINT AS {name}_{action}" for name in ("pair", "product") for action in ACTIONS
)


def history_of(rows: pa.Table | pa.RecordBatch, until: date) -> EngagementHistory:
    """The history that rows of :meth:`TrainingSnapshot.batches` carry."""

    def counts(name: str) -> Integers:
        columns = [rows.column(f"{name}_{action}").to_numpy(zero_copy_only=False) for action in ACTIONS]
        return np.stack(columns, axis=1)

    return EngagementHistory(until, counts("pair"), counts("product"))


def product_of(row: Mapping[str, Any]) -> Product:
    """The product of a row that has its columns."""
    fields = {name: row[name] for name in PRODUCT_COLUMNS}
    fields["attributes"] = json.loads(row["attributes"])
    # For each default factory that is left to it, pydantic would inspect a signature: thrice the time of all the rest.
    return Product.model_construct(set(fields), **fields, alternative_ids=[])
