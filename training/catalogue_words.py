"""Words of a query against each field of a product, and how common they are in the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats
from labelstream.training.judgments import Integers
from labelstream.training.lexical import tokenise, whole_text

_NOWHERE = 99  # a place that is behind every word


class CatalogueWords:
    """The words of all products, field by field.

    Args:
        products: The catalogue.
    """

    def __init__(self, products: Sequence[Product]) -> None:
        self._titles = [tokenise(product.title) for product in products]
        self._in_title = [frozenset(title) for title in self._titles]
        self._in_description = [frozenset(tokenise(product.description)) for product in products]
        self._in_text = [frozenset(tokenise(whole_text(product))) for product in products]
        self._in_brand = [frozenset(tokenise(product.brand)) for product in products]
        self._in_category = [frozenset(tokenise(product.category)) for product in products]
        self._in_values = [frozenset(tokenise(" ".join(product.attributes.values()))) for product in products]
        self._brands = set(self._in_brand)
        self._brand_words = frozenset(word for brand in self._brands for word in brand)
        self._attributes = np.array([len(product.attributes) for product in products], float)
        self._prices = np.log1p([product.price or 0.0 for product in products])

    def signals(self, asked: list[str], rows: Integers) -> list[Floats]:
        """Columns of shape (rows,): of each product with the query, then of the query alone.

        Args:
            asked: The query's tokens.
            rows: Positions in the catalogue.
        """
        return [*self._of_pairs(asked, rows), *(np.full(len(rows), value) for value in self._of_query(asked))]

    def _of_pairs(self, asked: list[str], rows: Integers) -> list[Floats]:
        fields = (
            self._in_title, self._in_text, self._in_category, self._in_brand, self._in_description, self._in_values
        )  # fmt: skip
        titles = [self._titles[row] for row in rows]
        head = asked[-1] if asked else ""  # of an English noun phrase, the last word says what it is
        columns = [[_share(asked, field[row]) for row in rows] for field in fields]
        columns += [
            [_first(asked, title) for title in titles],
            [float(head in title) for title in titles],
            [float(len(title)) for title in titles],
            [float(bool(self._in_category[row])) for row in rows],
        ]
        return [*(np.array(column, float) for column in columns), self._attributes[rows], self._prices[rows]]

    def _of_query(self, asked: list[str]) -> list[float]:
        words = set(asked)
        counts = [sum(words <= found for found in field) for field in (self._brands, self._in_title, self._in_text)]
        return [len(asked), _share(asked, self._brand_words), *np.log1p(counts).tolist()]


def _share(asked: list[str], words: Collection[str]) -> float:
    return sum(word in words for word in asked) / max(1, len(asked))


def _first(asked: list[str], words: list[str]) -> float:
    return float(min((words.index(word) for word in asked if word in words), default=_NOWHERE))
