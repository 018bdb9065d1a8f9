"""Words of query and product against each other: BM25 with the catalogue's document frequencies, and simple counts."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import bm25s
import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product

Column = NDArray[np.float32]

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it has set itself to DEBUG

# Those of Lucene, and so of Elasticsearch and OpenSearch.
_K1, _B = 1.2, 0.75
_WORD = re.compile(r"[^\W_]+")
_SHORTEST_PLURAL = 4


def tokenise(text: str) -> list[str]:
    """Words and numbers of a text: the one tokenisation of queries and products alike.

    Normalised as queries are (NFKC, case folded), cut at whatever is no letter and no digit, so that the model number
    ``WH-1000XM4`` is ``wh`` and ``1000xm4``. An English plural loses its s. No stop words: queries are short, and
    BM25 gives common words little weight anyway.
    """
    return [_singular(word) for word in _WORD.findall(normalise_query(text))]


def _singular(word: str) -> str:
    is_plural = len(word) >= _SHORTEST_PLURAL and word.endswith("s") and not word.endswith("ss") and word.isalpha()
    return word[:-1] if is_plural else word


def whole_text(product: Product) -> str:
    """All text of a product, without the names of the fields: they would be words of every product."""
    attributes = (part for pair in product.attributes.items() for part in pair)
    return "\n".join((product.title, product.brand, product.category, *attributes, product.description))


class LexicalStatistics(NamedTuple):
    """Columns of shape (pairs,), float32; none is ever missing.

    Attributes:
        bm25_title: BM25 of the query against the titles of the catalogue.
        bm25_text: BM25 of the query against the whole texts of the catalogue.
        query_tokens: Length of the query.
        title_tokens: Length of the title.
        text_tokens: Length of the whole text.
        query_share_in_title: Share of the query's different tokens that the title has, in [0, 1].
        query_share_in_text: Share of the query's different tokens that the whole text has, in [0, 1].
        phrase_in_title: 1 where the whole query stands in the title, word for word and in its order.
        number_tokens_found: Different query tokens with a digit (model numbers, sizes) that the whole text has.
        number_tokens_missed: Those that it lacks.
    """

    bm25_title: Column
    bm25_text: Column
    query_tokens: Column
    title_tokens: Column
    text_tokens: Column
    query_share_in_title: Column
    query_share_in_text: Column
    phrase_in_title: Column
    number_tokens_found: Column
    number_tokens_missed: Column


class LexicalIndex:
    """The words of a catalogue.

    Document frequencies are those of the whole catalogue, never of the pairs alone: the pairs of a query have most of
    its words, which would make these look common.

    Args:
        products: The catalogue; of two products with one id the later counts.

    Raises:
        SettingsError: No product at all.
    """

    def __init__(self, products: Iterable[Product]) -> None:
        self._products = {product.product_id: product for product in products}
        if not self._products:
            raise SettingsError("the catalogue is empty; publish the products, or name a catalogue that has some")
        self._row = {product_id: row for row, product_id in enumerate(self._products)}
        self._titles = FieldIndex(product.title for product in self._products.values())
        self._texts = FieldIndex(whole_text(product) for product in self._products.values())

    def __len__(self) -> int:
        return len(self._products)

    def statistics(self, queries: Sequence[str], product_ids: Sequence[str]) -> LexicalStatistics:
        """Look at pairs. Takes time in proportion to different queries × catalogue, and to the pairs' texts.

        Args:
            queries: As typed or normalised.
            product_ids: One for each query; all in the catalogue.

        Raises:
            SettingsError: A product that the catalogue does not have.
        """
        unknown = next((product_id for product_id in product_ids if product_id not in self._row), None)
        if unknown is not None:
            raise SettingsError(f"product {unknown} is not in the catalogue of {len(self)} products; index all of it")
        tokens = {query: tokenise(query) for query in dict.fromkeys(queries)}
        rows = np.array([self._row[product_id] for product_id in product_ids], np.int64)
        bm25 = [_bm25(field, queries, tokens, rows) for field in (self._titles, self._texts)]
        words = {product_id: _Words.of(self._products[product_id]) for product_id in dict.fromkeys(product_ids)}
        pairs = zip(queries, product_ids, strict=True)
        counts = [_counts(tokens[query], words[product_id]) for query, product_id in pairs]
        columns = np.array(counts, np.float32).reshape(len(counts), len(LexicalStatistics._fields) - len(bm25))
        return LexicalStatistics(*bm25, *columns.T)


class FieldIndex:
    """BM25 over one field of all products (Robertson and Zaragoza 2009, the variant of Lucene)."""

    def __init__(self, texts: Iterable[str]) -> None:
        documents = [tokenise(text) for text in texts]
        self._products = len(documents)
        self._index = bm25s.BM25(k1=_K1, b=_B, method="lucene", backend="numpy")
        self._is_empty = not any(documents)
        if not self._is_empty:
            self._index.index(documents, create_empty_token=False, show_progress=False)

    def scores(self, tokens: list[str]) -> Column:
        """Scores of all products, shape (products,); 0 where no word fits."""
        known = [] if self._is_empty else self._index.get_tokens_ids(tokens)
        if not known:
            return np.zeros(self._products, np.float32)
        return np.asarray(self._index.get_scores_from_ids(known), np.float32)


def _bm25(field: FieldIndex, queries: Sequence[str], tokens: dict[str, list[str]], rows: NDArray[np.int64]) -> Column:
    """Scores of the pairs; one query's scores of the whole catalogue are in memory at a time."""
    pairs: dict[str, list[int]] = {}
    for pair, query in enumerate(queries):
        pairs.setdefault(query, []).append(pair)
    found = np.zeros(len(queries), np.float32)
    for query, chosen in pairs.items():
        found[chosen] = field.scores(tokens[query])[rows[chosen]]
    return found


class _Words(NamedTuple):
    """The tokens of one product."""

    title: list[str]
    in_title: frozenset[str]
    text_length: int
    in_text: frozenset[str]

    @classmethod
    def of(cls, product: Product) -> _Words:
        title, text = tokenise(product.title), tokenise(whole_text(product))
        return cls(title, frozenset(title), len(text), frozenset(text))


def _counts(query: list[str], words: _Words) -> tuple[float, ...]:
    """The columns after BM25, in the order of ``LexicalStatistics``."""
    asked = set(query)
    numbers = {token for token in asked if any(character.isdigit() for character in token)}
    return (
        len(query),
        len(words.title),
        words.text_length,
        len(asked & words.in_title) / max(1, len(asked)),
        len(asked & words.in_text) / max(1, len(asked)),
        _has_phrase(words.title, query),
        len(numbers & words.in_text),
        len(numbers - words.in_text),
    )


def _has_phrase(title: list[str], phrase: list[str]) -> bool:
    starts = range(len(title) - len(phrase) + 1)
    return bool(phrase) and any(title[start : start + len(phrase)] == phrase for start in starts)
