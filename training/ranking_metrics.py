"""Quality of a ranking: NDCG by what people said, and the share of add-to-carts near the top.

**NDCG@k** is DCG@k divided by that of the best order of the same query's judged pairs, with the discount
1 / log2(position + 1). Its gain is named wherever it stands:

- ``linear``: the rating itself (Järvelin and Kekäläinen 2002), what ``trec_eval`` and ``ir_measures.nDCG`` report;
- ``exponential``: 2^rating − 1 (Burges et al. 2005), what XGBoost and LightGBM mean by default.

``ir_measures`` computes both. Its only provider of an exponential gain, gdeval, is a Perl program that rounds to five
digits, so the gains are put in the place of the ratings and pytrec_eval does the rest.

**Queries without a relevant product** (every rating 0) have no best order: their NDCG is not defined, NaN here, and
they are left out of the mean. ``trec_eval`` would count them as 0, which no ranking could mend. The same holds for the
share of add-to-carts of a query without any, or with so few products that all are near the top.

**Ties** are broken by a hash of query and product id: the order of the file or of the ids often knows the truth, and a
sort that keeps it would flatter a model that gives many pairs the same score. What ``trec_eval`` does with ties, and
that it keeps scores in single precision, does not matter here: it is given positions, not scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ir_measures
import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.keys import normalise_query
from labelstream.schemas.scale import Floats
from labelstream.training.confusion_counts import divide
from labelstream.training.judgments import Integers, number_queries

Gain = Literal["linear", "exponential"]

GAINS: tuple[Gain, ...] = ("linear", "exponential")
NDCG_CUTOFF = 10
ADD_TO_CART_CUTOFF = 40
_GAIN_UNIT = 1000  # trec_eval takes whole numbers; NDCG does not change with the unit of its gains
_GREATEST_GAIN = 2**24


@dataclass(frozen=True, eq=False)
class Ranking:
    """The order of the pairs of each query.

    Attributes:
        query_numbers: Which query a pair belongs to, numbered as they first appear; shape (pairs,).
        positions: Place of a pair within its query, 1 is the top; shape (pairs,).
    """

    query_numbers: Integers
    positions: Integers

    @property
    def queries(self) -> int:
        """How many queries there are."""
        return int(self.query_numbers.max(initial=-1)) + 1


def rank(queries: Sequence[str], product_ids: Sequence[str], scores: Floats) -> Ranking:
    """Order the pairs of each query, highest score first.

    Args:
        queries: Of each pair; two spellings that normalise to the same are one query.
        product_ids: Of each pair.
        scores: Shape (pairs,); infinities are allowed, NaN is not.

    Raises:
        ValueError: A score is NaN, or the three are not of one length.
    """
    scores = np.asarray(scores, np.float64)
    if not len(queries) == len(product_ids) == len(scores):
        raise ValueError(f"{len(queries)} queries, {len(product_ids)} products and {len(scores)} scores: give as many")
    if np.isnan(scores).any():
        raise ValueError(f"score of pair {int(np.isnan(scores).argmax())} is NaN; leave out pairs without a score")
    numbers = number_queries(queries)
    order = np.lexsort((_draws(queries, product_ids), -scores, numbers))
    positions = np.empty(len(order), np.int64)
    starts = np.searchsorted(numbers[order], np.arange(len(order)))
    positions[order] = np.arange(len(order)) - starts[numbers[order]] + 1
    return Ranking(numbers, positions)


def _draws(queries: Sequence[str], product_ids: Sequence[str]) -> NDArray[np.uint64]:
    normalised = {query: normalise_query(query) for query in dict.fromkeys(queries)}
    texts = (f"{normalised[query]}\0{product_id}" for query, product_id in zip(queries, product_ids, strict=True))
    digests = b"".join(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.dtype("<u8"))


def ndcg(ranking: Ranking, ratings: Floats, *, k: int = NDCG_CUTOFF, gain: Gain = "linear") -> Floats:
    """NDCG@k of each query.

    Args:
        ranking: Of all judged pairs of each query.
        ratings: What people said, 0 is not relevant; shape (pairs,).
        k: Positions that count.
        gain: What a rating is worth. Gains that are no whole numbers are taken to a thousandth.

    Returns:
        Shape (queries,); NaN for a query whose ratings are all 0.

    Raises:
        ValueError: A rating is negative or NaN, or its gain is too large to be meant.
    """
    gains = _whole_gains(np.asarray(ratings, np.float64), gain)
    judged: dict[str, dict[str, int]] = {str(query): {} for query in range(ranking.queries)}
    run: dict[str, dict[str, float]] = {str(query): {} for query in range(ranking.queries)}
    columns = (ranking.query_numbers.tolist(), gains.tolist(), ranking.positions.tolist())
    for pair, (query, worth, position) in enumerate(zip(*columns, strict=True)):
        judged[str(query)][str(pair)] = worth
        run[str(query)][str(pair)] = float(-position)
    values = np.full(ranking.queries, np.nan)
    for metric in ir_measures.pytrec_eval.iter_calc([ir_measures.nDCG @ k], judged, run):
        values[int(metric.query_id)] = metric.value
    best = np.zeros(ranking.queries)
    np.maximum.at(best, ranking.query_numbers, gains)
    return np.where(best > 0, values, np.nan)


def _whole_gains(ratings: Floats, gain: Gain) -> Integers:
    if not (ratings >= 0).all():
        raise ValueError("ratings must be numbers from 0 up")
    with np.errstate(over="ignore"):
        gains = ratings if gain == "linear" else np.exp2(ratings) - 1
    if (gains != np.round(gains)).any():
        gains = gains * _GAIN_UNIT
    if gains.max(initial=0) > _GREATEST_GAIN:
        raise ValueError(f"a rating of {ratings.max():g} has no {gain} gain; rate by grades such as 0 to 3")
    return np.asarray(np.round(gains), np.int64)


def add_to_cart_share(ranking: Ranking, add_to_carts: Floats, *, k: int = ADD_TO_CART_CUTOFF) -> Floats:
    """ATC@k of each query: the share of its add-to-carts that went to the products in its first k positions.

    The measure of engagement of arXiv 2409.17460 (ATC@40). Of a query with no more than k products it says nothing,
    whatever their order: all of them are in the first k positions.

    Args:
        ranking: Of all products of each query.
        add_to_carts: How often each pair was added, counted or simulated; shape (pairs,).
        k: Positions that count.

    Returns:
        Shape (queries,); NaN for a query without any, or with no more than k products.

    Raises:
        ValueError: A count is negative or NaN.
    """
    counts = np.asarray(add_to_carts, np.float64)
    if not (counts >= 0).all():
        raise ValueError("add-to-carts must be numbers from 0 up")
    numbers, queries = ranking.query_numbers, ranking.queries
    whole = np.bincount(numbers, counts, queries).astype(np.float64)
    top = np.bincount(numbers, np.where(ranking.positions <= k, counts, 0.0), queries).astype(np.float64)
    return np.where(np.bincount(numbers, minlength=queries) > k, divide(top, whole), np.nan)
