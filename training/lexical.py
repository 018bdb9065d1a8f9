"""Words of query and product against each other: BM25 with the catalogue's document frequencies, and simple counts."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import bm25s
import numpy as np
from numpy.typing import NDArray

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
    """How a catalogue uses its words: all that is needed to score any product, of the catalogue or not.

    Document frequencies are those of the whole catalogue, never of the pairs alone: the pairs of a query have most of
    its words, which would make these look common. Memory is that of the vocabulary; no product is kept.

    Args:
        products: The catalogue; of two products with one id the later counts. Without any product BM25 is 0.
    """

    def __init__(self, products: Iterable[Product]) -> None:
        newest = {product.product_id: product for product in products}
        self._count(newest.values())

    @classmethod
    def of_unique(cls, products: Iterable[Product]) -> Self:
        """The same of products whose ids all differ, one product in memory at a time."""
        index = cls(())
        index._count(products)
        return index

    def _count(self, products: Iterable[Product]) -> None:
        self._titles, self._texts = FieldStatistics(), FieldStatistics()
        for product in products:
            self._titles.add(tokenise(product.title))
            self._texts.add(tokenise(whole_text(product)))

    def __len__(self) -> int:
        return self._titles.documents

    def statistics(self, queries: Sequence[str], products: Sequence[Product]) -> LexicalStatistics:
        """Look at pairs. Takes time in proportion to the pairs and their texts, whatever the size of the catalogue.

        Args:
            queries: As typed or normalised.
            products: One for each query; they need not be in the catalogue.

        Raises:
            ValueError: There are more of the one than of the other.
        """
        if len(queries) != len(products):
            raise ValueError(f"{len(queries)} queries and {len(products)} products: must be one for one")
        tokens = {query: tokenise(query) for query in dict.fromkeys(queries)}
        known: dict[tuple[str, str], _Words] = {}  # by content: a product may come without an id, or often
        words = [_words_of(product, known) for product in products]
        columns = np.zeros((len(LexicalStatistics._fields), len(words)), np.float32)
        for query, pairs in _pairs_of(queries).items():
            asked = [words[pair] for pair in pairs]
            columns[0, pairs] = self._titles.bm25(tokens[query], [one.title for one in asked])
            columns[1, pairs] = self._texts.bm25(tokens[query], [one.text for one in asked])
            columns[2:, pairs] = np.array([_counts(tokens[query], one) for one in asked], np.float32).T
        return LexicalStatistics(*columns)


class Document(NamedTuple):
    """One text, as far as BM25 looks at it.

    Attributes:
        length: In tokens.
        counts: How often each token is there.
    """

    length: int
    counts: Counter[str]

    @classmethod
    def of(cls, tokens: Sequence[str]) -> Document:
        """The document of these tokens."""
        return cls(len(tokens), Counter(tokens))


class FieldStatistics:
    """BM25 of single documents with a catalogue's frequencies (Robertson and Zaragoza 2009, the variant of Lucene).

    What it says of a document of the catalogue is what bm25s says, to the last bit: it computes with the same
    precision in the same order. A word that the catalogue lacks weighs as much as one of a single product, which is
    the rarest that a ranker can have been trained on.

    Attributes:
        documents: How many were counted.
    """

    def __init__(self) -> None:
        self.documents = 0
        self._tokens = 0
        self._frequencies: Counter[str] = Counter()

    def add(self, tokens: Sequence[str]) -> None:
        """Count a document of the catalogue."""
        self.documents += 1
        self._tokens += len(tokens)
        self._frequencies.update(set(tokens))

    def bm25(self, query: Sequence[str], documents: Sequence[Document]) -> Column:
        """Scores of documents, shape (documents,); 0 where no word fits.

        Args:
            query: Tokens.
            documents: Any, also such as were never counted.
        """
        scores = np.zeros(len(documents), np.float32)
        if not self._tokens:
            return scores
        lengths = np.array([document.length for document in documents], np.float64)
        norms = _K1 * ((1 - _B) + _B * lengths / (self._tokens / self.documents))
        for token in query:
            found = np.array([document.counts.get(token, 0) for document in documents], np.float64)
            scores += (self._weight(token) * (found / (norms + found))).astype(np.float32)
        return scores

    def _weight(self, token: str) -> np.float32:
        """Inverse document frequency."""
        frequency = max(1, self._frequencies.get(token, 0))
        return np.float32(math.log(1 + (self.documents - frequency + 0.5) / (frequency + 0.5)))


class FieldIndex:
    """BM25 of a query and every product of a catalogue at once, for one field; see ``FieldStatistics``."""

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


def _pairs_of(queries: Sequence[str]) -> dict[str, list[int]]:
    pairs: dict[str, list[int]] = {}
    for pair, query in enumerate(queries):
        pairs.setdefault(query, []).append(pair)
    return pairs


class _Words(NamedTuple):
    """One product."""

    title_tokens: list[str]
    title: Document
    text: Document


def _words_of(product: Product, known: dict[tuple[str, str], _Words]) -> _Words:
    content = product.title, whole_text(product)
    found = known.get(content)
    if found is None:
        title, text = map(tokenise, content)
        found = known[content] = _Words(title, Document.of(title), Document.of(text))
    return found


def _counts(query: list[str], words: _Words) -> tuple[float, ...]:
    """The columns after BM25, in the order of ``LexicalStatistics``."""
    asked, in_title, in_text = set(query), words.title.counts.keys(), words.text.counts.keys()
    numbers = {token for token in asked if any(character.isdigit() for character in token)}
    return (
        len(query),
        words.title.length,
        words.text.length,
        len(asked & in_title) / max(1, len(asked)),
        len(asked & in_text) / max(1, len(asked)),
        _has_phrase(words.title_tokens, query),
        len(numbers & in_text),
        len(numbers - in_text),
    )


def _has_phrase(title: list[str], phrase: list[str]) -> bool:
    starts = range(len(title) - len(phrase) + 1)
    return bool(phrase) and any(title[start : start + len(phrase)] == phrase for start in starts)
