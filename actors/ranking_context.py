"""What the ranker knows of the shop: catalogue, words and engagement of one snapshot of the lake, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple, Self

import pyarrow as pa

from labelstream.actors.past_engagement import PastEngagement
from labelstream.schemas.product import Product
from labelstream.schemas.settings import LakeSettings
from labelstream.streaming.lake import Lake
from labelstream.training.lexical import LexicalIndex
from labelstream.training.ranking_data import product_of

_FIELDS = ("product_id", "title", "brand", "category", "description", "attributes", "price")
_ROWS_AT_ONCE = 1000


class Catalogue:
    """Products by id, and how often they use which words.

    Memory: the products' texts once, as Arrow has them, about 200 bytes an id, and the vocabulary.

    Args:
        products: Columns of the lake's table; each id once.
        aliases: Columns ``alias`` and ``product_id``: other ids of products.

    Attributes:
        index: The words of all products.
    """

    def __init__(self, products: pa.Table, aliases: pa.Table) -> None:
        self._products, self._aliases = products, aliases
        owners = zip(*(aliases.column(name).to_pylist() for name in ("alias", "product_id")), strict=True)
        own = {product_id: row for row, product_id in enumerate(products.column("product_id").to_pylist())}
        # A product's own id goes before another one's alias, as in the stream.
        self._rows = {alias: own[product_id] for alias, product_id in owners} | own
        self.index = LexicalIndex.of_unique(self._all())

    @classmethod
    def read(cls, lake: Lake, snapshot: int, before: Catalogue) -> Catalogue:
        """Read the catalogue of a snapshot; the one before, where it is still the same."""
        table = f"products AT (VERSION => {int(snapshot)})"
        products = lake.execute(f"SELECT {', '.join(_FIELDS)} FROM {table} ORDER BY product_id").to_arrow_table()
        aliases = lake.execute(
            f"SELECT unnest(alternative_ids) AS alias, product_id FROM {table} ORDER BY ALL"
        ).to_arrow_table()
        is_same = products.equals(before._products) and aliases.equals(before._aliases)
        return before if is_same else cls(products, aliases)

    @classmethod
    def empty(cls) -> Self:
        """No product at all."""
        products = pa.schema([*((name, pa.string()) for name in _FIELDS[:-1]), (_FIELDS[-1], pa.float64())])
        aliases = pa.schema([("alias", pa.string()), ("product_id", pa.string())])
        return cls(products.empty_table(), aliases.empty_table())

    def __len__(self) -> int:
        return len(self.index)

    def find(self, ids: Sequence[str]) -> dict[str, Product]:
        """The products that have these ids or alternative ids; those that nobody has are left out."""
        rows = {one: self._rows[one] for one in ids if one in self._rows}
        found = self._products.take(pa.array(rows.values(), pa.int64())).to_pylist()
        return {one: product_of(row) for one, row in zip(rows, found, strict=True)}

    def _all(self) -> Iterator[Product]:
        for batch in self._products.to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from map(product_of, batch.to_pylist())


class RankingContext(NamedTuple):
    """All of it, of one snapshot.

    Attributes:
        snapshot: Of the lake; None as long as there is no lake.
        until: Engagement counts before this day, in UTC.
        catalogue: The products.
        engagement: What shoppers did with them.
    """

    snapshot: int | None
    until: date
    catalogue: Catalogue
    engagement: PastEngagement

    @classmethod
    def empty(cls) -> RankingContext:
        """Of a lake that is not there yet."""
        return cls(None, date.min, Catalogue.empty(), PastEngagement.nothing())


def read_context(settings: LakeSettings, until: date, before: RankingContext) -> RankingContext:
    """Read what is new in the lake.

    Args:
        settings: Where the lake is.
        until: The first day whose engagement does not count.
        before: What was read the last time; comes back where nothing has changed.

    Raises:
        SettingsError: There is no lake, or it has no tables yet.
        TransientError: It is locked or does not answer.
    """
    with Lake(settings, read_only=True) as lake:
        snapshot = lake.snapshot
        if (snapshot, until) == (before.snapshot, before.until):
            return before
        catalogue = Catalogue.read(lake, snapshot, before.catalogue)
        return RankingContext(snapshot, until, catalogue, PastEngagement.read(lake, snapshot, until))
