"""Pairs that people have rated: the type, the rule from ratings to levels, and the Chorus layout."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product, product_text
from labelstream.schemas.scale import Floats, LabelScale
from labelstream.training.delimited import read_table
from labelstream.training.load_report import LoadReport
from labelstream.training.raters import as_rating, read_raters

__all__ = [
    "MISSING",
    "Integers",
    "JudgedPairs",
    "LoadReport",
    "RatedRow",
    "collect_pairs",
    "load_judged_pairs",
    "number_queries",
    "ratings_to_levels",
]

Integers = NDArray[np.int64]
FindProducts = Callable[[Set[str]], Iterable[Product]]

MISSING = -1


@dataclass(frozen=True, eq=False)
class JudgedPairs:
    """Pairs that people have rated, in file order.

    Attributes:
        queries: As the file has them.
        products: What was judged, as the catalogue has it.
        ratings: As given, such as 0 to 3; shape (pairs,).
        levels: On our label scale, 0 is the worst; shape (pairs,).
        rater_levels: What the single raters said, on our scale, -1 where there is nothing; shape (pairs, raters).
    """

    queries: tuple[str, ...]
    products: tuple[Product, ...]
    ratings: Floats
    levels: Integers
    rater_levels: Integers | None = None

    def __post_init__(self) -> None:
        aligned = [self.products, self.ratings, self.levels]
        if self.rater_levels is not None:
            aligned.append(self.rater_levels)
        if any(len(part) != len(self.queries) for part in aligned):
            raise ValueError(f"every part must have one entry for each of the {len(self.queries)} pairs")

    def __len__(self) -> int:
        return len(self.queries)

    def select(self, indices: Integers) -> JudgedPairs:
        """The pairs at these positions, in this order."""
        return JudgedPairs(
            tuple(self.queries[i] for i in indices),
            tuple(self.products[i] for i in indices),
            self.ratings[indices],
            self.levels[indices],
            None if self.rater_levels is None else self.rater_levels[indices],
        )

    @property
    def texts(self) -> tuple[list[str], list[str]]:
        """The queries, and the product texts that models see."""
        return list(self.queries), [product_text(product) for product in self.products]

    @property
    def product_ids(self) -> tuple[str, ...]:
        """Id of the product of each pair."""
        return tuple(product.product_id for product in self.products)

    @property
    def query_numbers(self) -> Integers:
        """Which query a pair belongs to: see :func:`number_queries`."""
        return number_queries(self.queries)


def number_queries(queries: Sequence[str]) -> Integers:
    """Number the queries 0, 1, 2, … in the order in which they first appear.

    Returns:
        Shape (pairs,). Spellings that normalise to the same query have the same number.
    """
    normalised = {query: normalise_query(query) for query in dict.fromkeys(queries)}
    numbers = {query: number for number, query in enumerate(dict.fromkeys(normalised.values()))}
    return np.array([numbers[normalised[query]] for query in queries], np.int64)


def ratings_to_levels(ratings: Floats, scale: LabelScale, highest_rating: float) -> Integers:
    """Put ratings on our label scale.

    The lowest rating is the worst level and the highest the best; those between share the levels between evenly, in
    order, and take the lower where they fall on a border. Ratings 0..3 on three levels: 0 → 0, 1 and 2 → 1, 3 → 2; on
    five: 0, 1, 3, 4. With two levels only what is more than half way up is the best.

    Args:
        ratings: Shape (pairs,), each in [0, highest_rating].
        scale: Ours.
        highest_rating: The best rating that can be given; the lowest is 0.

    Returns:
        Shape (pairs,), each in 0..levels-1.
    """
    best = len(scale.levels) - 1
    if best == 1:
        return np.asarray(ratings * 2 > highest_rating, np.int64)
    # Rating g of the n = highest - 1 between has its middle at (g - 1/2) / n of the way through the levels between.
    way = (ratings - 0.5) * (best - 1) / max(highest_rating - 1, 1)
    between = np.clip(np.ceil(way), 1, best - 1)
    return np.where(ratings <= 0, 0, np.where(ratings >= highest_rating, best, between)).astype(np.int64)


class RatedRow(NamedTuple):
    """What one row of a file of judgements says.

    Attributes:
        where: The row, as a person would look it up.
        rating: NaN where there is no number.
        written: The rating as it stands in the file.
    """

    where: str
    query: str
    product_id: str
    rating: float
    written: str


PairKey = tuple[str, str]


def collect_pairs(
    rows: Iterable[RatedRow], find: FindProducts, scale: LabelScale, *, highest_rating: float, report: LoadReport
) -> JudgedPairs:
    """Make pairs of rows, one for each normalised query and product id.

    Args:
        rows: In file order.
        find: Gives the products with these ids; of two with the same id the later counts, as with upserts.
        scale: Our label scale.
        highest_rating: The best rating that can be given; the lowest is 0.
        report: Is told what was left out and why.

    Raises:
        SettingsError: No pair is left.
    """
    queries: dict[PairKey, str] = {}
    given: dict[PairKey, list[float]] = {}
    for row in rows:
        report.rows += 1
        key = normalise_query(row.query), row.product_id
        if not (key[0] and key[1]):
            report.malformed_rows.add(row.where)
        elif not 0 <= row.rating <= highest_rating:
            report.bad_ratings.add(f"{row.where}: {row.written!r}")
        elif row.rating in given.get(key, ()):
            report.duplicates += 1
        else:
            queries.setdefault(key, row.query)
            given.setdefault(key, []).append(row.rating)
    rated = {key: _settled(key, ratings, report) for key, ratings in given.items()}
    products = {product.product_id: product for product in find({product_id for _, product_id in rated})}
    known = [key for key in rated if key[1] in products]
    for _, product_id in (key for key in rated if key[1] not in products):
        report.unknown_products.add(product_id)
    ratings = np.array([rated[key] for key in known], np.float64)
    levels = ratings_to_levels(ratings, scale, highest_rating)
    report.finish(len({query for query, _ in known}), levels, scale)
    found = tuple(products[product_id] for _, product_id in known)
    return JudgedPairs(tuple(queries[key] for key in known), found, ratings, levels)


def _settled(key: PairKey, ratings: list[float], report: LoadReport) -> float:
    """One rating for a pair: where several differ, their median, rounded down to a whole rating."""
    if len(ratings) == 1:
        return ratings[0]
    report.contradictions.add(f"{key[0]!r}, {key[1]}: {', '.join(f'{rating:g}' for rating in ratings)}")
    report.contradicting_rows += len(ratings) - 1
    return float(math.floor(statistics.median(ratings)))


def load_judged_pairs(
    judgments: Path,
    catalogue_products: Iterable[Product],
    scale: LabelScale,
    *,
    raters: Path | None = None,
    highest_rating: float = 3,
) -> tuple[JudgedPairs, LoadReport]:
    """Read judgements in the Chorus layout (also Quepid's): ``query,docid,rating``.

    Queries are the same when they normalise to the same (see ``schemas.keys``), product ids when they are equal. Equal
    rows count once. Different ratings of one pair become their median, rounded down.

    Args:
        judgments: The file, plain or gzip.
        catalogue_products: The catalogue that was judged, read once, only what is judged is kept.
        scale: Our label scale; see :func:`ratings_to_levels` for the rule.
        raters: A file ``query,docid,agent_1_rating,…`` with what each rater said, any number of them.
        highest_rating: The best rating that can be given; the lowest is 0.

    Returns:
        The pairs, and what was left out and why.

    Raises:
        SettingsError: A file cannot be read or lacks a column, no pair is left, or the highest rating is not above 0.
    """
    if not highest_rating > 0:
        raise SettingsError(f"highest_rating: {highest_rating:g} must be above 0, the lowest rating")
    report = LoadReport(str(judgments))

    def find(wanted: Set[str]) -> Iterator[Product]:
        return (product for product in catalogue_products if product.product_id in wanted)

    rows = _rated_rows(judgments, report)
    pairs = collect_pairs(rows, find, scale, highest_rating=highest_rating, report=report)
    if raters is None:
        return pairs, report
    keys = zip(map(normalise_query, pairs.queries), pairs.product_ids, strict=True)
    positions = {key: position for position, key in enumerate(keys)}
    said = read_raters(raters, positions, pairs.ratings, highest_rating=highest_rating, report=report)
    rater_levels = ratings_to_levels(np.nan_to_num(said), scale, highest_rating)
    rater_levels[np.isnan(said)] = MISSING
    return replace(pairs, rater_levels=rater_levels), report


def _rated_rows(path: Path, report: LoadReport) -> Iterator[RatedRow]:
    def malformed(line: int) -> None:
        report.rows += 1
        report.malformed_rows.add(f"line {line}")

    table = read_table(path, ("query", "docid", "rating"), on_malformed=malformed)
    for line, values in table.rows:
        written = values["rating"]
        yield RatedRow(f"line {line}", values["query"], values["docid"], as_rating(written), written)
