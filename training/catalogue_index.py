"""A whole catalogue against one query: how near every product is, by words and by meaning, and beside which others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.product import Product, product_text
from labelstream.schemas.scale import Floats
from labelstream.training.catalogue_neighbours import CatalogueNeighbours
from labelstream.training.catalogue_words import CatalogueWords
from labelstream.training.lexical import FieldIndex, tokenise, whole_text

Embed = Callable[[list[str]], NDArray[np.float32]]
Rows = NDArray[np.int64]

_BEST = 20


class CatalogueIndex:
    """Signals of (query, product) that need the whole catalogue.

    A score alone says little: the same cosine is good for one query and bad for another. So every score comes also
    relative to the best products for the query, and as a rank; and a product is compared with the best ones together
    (:mod:`labelstream.training.catalogue_neighbours`) and word by word (:mod:`labelstream.training.catalogue_words`).

    Args:
        products: The catalogue, at least one product.
        embed: Texts to unit vectors; shape (texts, dimensions).
    """

    def __init__(self, products: Sequence[Product], embed: Embed) -> None:
        self.products = list(products)
        self.row_of = {product.product_id: row for row, product in enumerate(self.products)}
        self._embed = embed
        self._named = embed([f"{product.category} {product.title}".strip() for product in self.products])
        self._whole = embed([product_text(product) for product in self.products])
        categories, self._category = np.unique([product.category for product in self.products], return_inverse=True)
        self._category_vectors = embed([name or "anything" for name in categories.tolist()])
        self._titles = FieldIndex(product.title for product in self.products)
        self._texts = FieldIndex(whole_text(product) for product in self.products)
        self._descriptions = FieldIndex(product.description for product in self.products)
        self._words = CatalogueWords(self.products)
        self._neighbours = CatalogueNeighbours(self.products, self._named)
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._scores = lru_cache(maxsize=1)(self._find_scores)  # candidates and their signals come one after the other

    def expect(self, queries: Sequence[str]) -> None:
        """Embed all of these at once, which takes less time than one by one when each is asked for."""
        new = [query for query in dict.fromkeys(queries) if query not in self._vectors]
        if new:
            self._vectors |= dict(zip(new, self._embed(new), strict=True))

    def candidates(self, query: str, rng: np.random.Generator) -> Rows:
        """A dozen products to judge: a few of the best, more of those that are nearly good, one of all."""
        nearest = np.argsort(-self._mixed(self._scores(query)))
        parts = [(0, 10, 4), (10, 60, 4), (60, 600, 3), (0, len(nearest), 1)]
        chosen = [rng.permutation(nearest[first:last])[:count] for first, last, count in parts]
        return np.unique(np.concatenate(chosen))

    def signals(self, query: str, rows: Rows) -> Floats:
        """All signals of some products for a query.

        Args:
            query: As typed.
            rows: Positions in the catalogue; shape (pairs,).

        Returns:
            Shape (pairs, signals); the same columns for every query.
        """
        scores = self._scores(query)
        columns = [column for score in scores.values() for column in _relative(score, rows)]
        columns += self._words.signals(tokenise(query), rows)
        columns += self._neighbours.signals(self._mixed(scores), rows)
        columns += [np.full(len(rows), scores[name].max()) for name in ("named", "whole", "title")]
        return np.stack(columns, axis=1)

    def _find_scores(self, query: str) -> dict[str, Floats]:
        """Every product's score by each measure; shape (products,) each."""
        self.expect([query])
        vector, asked = self._vectors[query], tokenise(query)
        return {
            "named": self._named @ vector,
            "whole": self._whole @ vector,
            "category": (self._category_vectors @ vector)[self._category],
            "title": self._titles.scores(asked).astype(float),
            "text": self._texts.scores(asked).astype(float),
            "description": self._descriptions.scores(asked).astype(float),
        }

    @staticmethod
    def _mixed(scores: dict[str, Floats]) -> Floats:
        weights = {"named": 1.0, "whole": 1.0, "title": 0.5}
        return np.asarray(sum(weight * scores[name] / (scores[name].std() + 1e-9) for name, weight in weights.items()))


def _relative(score: Floats, rows: Rows) -> list[Floats]:
    """A score, and how it stands among all products."""
    ascending = np.sort(score)
    best, own = ascending[-_BEST:].mean(), score[rows]
    above = len(score) - np.searchsorted(ascending, own, side="right")
    return [own, own - best, own / max(1e-6, float(ascending[-1])), np.log1p(above)]
