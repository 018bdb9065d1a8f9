"""A product beside the best products for a query, and beside the products that are most like itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats
from labelstream.training.judgments import Integers

_BEST = (20, 100)
_LIKE = 5
_NEIGHBOURS = 11  # with itself
_ATTRIBUTE_NAMES = 400
_REMEMBERED = 100_000


class _Groups(NamedTuple):
    """Which group each product is in; shape (products,)."""

    of: Integers
    size: int

    @classmethod
    def by(cls, names: Iterable[str]) -> _Groups:
        distinct, numbers = np.unique([name.casefold() for name in names], return_inverse=True)
        return cls(numbers, len(distinct))


class CatalogueNeighbours:
    """Who stands beside whom in a catalogue.

    The best products for a query say what it means (pseudo-relevance feedback: Rocchio 1971): their categories and
    brands, what they cost, which attributes they have, and where their vectors are.

    Args:
        products: The catalogue, at least one product.
        vectors: Unit vectors of their names; shape (products, dimensions).
    """

    def __init__(self, products: Sequence[Product], vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._groups = [
            _Groups.by(product.category for product in products),
            _Groups.by(product.brand for product in products),
        ]
        self._prices = np.log1p([product.price or 0.0 for product in products])
        # The names of its attributes tell a notebook from a notebook's bag. One that all have keeps nobody from it.
        vectorizer = TfidfVectorizer(
            analyzer=lambda product: ["", *product.attributes], max_features=_ATTRIBUTE_NAMES, dtype=np.float64
        )
        self._attributes = vectorizer.fit_transform(products)
        self._nearest = lru_cache(_REMEMBERED)(self._find_nearest)

    def signals(self, scores: Floats, rows: Integers) -> list[Floats]:
        """Columns of shape (rows,).

        Args:
            scores: How good every product is for the query; shape (products,).
            rows: Positions in the catalogue.
        """
        order = np.argsort(-scores)
        beside = [column for count in _BEST for column in self._beside(order[:count], scores, rows)]
        return [*beside, self._among_its_like(scores, rows)]

    def _beside(self, best: Integers, scores: Floats, rows: Integers) -> list[Floats]:
        weights = np.exp(scores[best] - scores[best].max())
        weights /= weights.sum()
        columns = []
        for group in self._groups:
            shares = np.bincount(group.of[best], weights, minlength=group.size)
            columns += [shares[group.of[rows]], np.full(len(rows), shares.max())]
        centre = weights @ self._vectors[best]
        # Summed without BLAS, a product has the same digits whoever stands beside it.
        like = np.sort(np.einsum("rd,bd->rb", self._vectors[rows], self._vectors[best]), axis=1)[:, -_LIKE - 1 : -1]
        columns += [
            self._vectors[rows] @ (centre / (np.linalg.norm(centre) + 1e-9)),
            like.sum(axis=1) / _LIKE,
            self._attributes_like(best, rows),
            self._prices[rows] - np.median(self._prices[best]),
        ]
        return columns

    def _attributes_like(self, best: Integers, rows: Integers) -> Floats:
        centre = np.asarray(self._attributes[best].mean(axis=0)).ravel()
        return np.asarray(self._attributes[rows] @ (centre / (np.linalg.norm(centre) + 1e-9)))

    def _among_its_like(self, scores: Floats, rows: Integers) -> Floats:
        """How good those are for the query that are most like the product: what one title lacks, others have."""
        normal = (scores - scores.mean()) / (scores.std() + 1e-9)
        return np.array([normal[self._nearest(int(row))].mean() for row in rows])

    def _find_nearest(self, row: int) -> Integers:
        count = min(_NEIGHBOURS, len(self._vectors))
        return np.argpartition(-(self._vectors @ self._vectors[row]), count - 1)[:count]
