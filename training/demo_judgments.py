"""The made-up shop as files: its catalogue, the truth about many queries, and what "people" have judged of them.

With these every command of the learning loop runs without anybody's data. Everything in them is invented.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product
from labelstream.training.demo_catalogue import (
    IRRELEVANT,
    QueryIntent,
    demo_catalogue,
    intent_met_by,
    phrase,
    relevance,
)
from labelstream.training.durable_files import whole_file

RATINGS = (0, 2, 3)  # by level, on Quepid's scale
JUDGED_SHARE = 0.25
_MOST_IN_VAIN = 10_000  # queries drawn again, one after the other

_HEADER = ("query", "docid", "rating")


class JudgedRow(NamedTuple):
    """One line of a file of judgements."""

    query: str
    product_id: str
    rating: int


class DemoShop(NamedTuple):
    """What was written.

    Attributes:
        catalogue: Product messages, JSON lines.
        truth: Ratings of every query.
        judgments: Ratings of a quarter of the queries, as if people had judged only these.
        queries: How many there are in ``truth``.
        judged: How many of them are in ``judgments``.
        pairs: How many there are in ``truth``.
    """

    catalogue: Path
    truth: Path
    judgments: Path
    queries: int
    judged: int
    pairs: int


def demo_truth(catalogue: Sequence[Product], *, queries: int, per_query: int, seed: int) -> Iterator[list[JudgedRow]]:
    """The truth about some products of each query: a third of them of each level, as far as there are such.

    Args:
        catalogue: Of the made-up shop.
        queries: How many different ones.
        per_query: Products of each.
        seed: The same seed gives the same rows.

    Yields:
        The rows of one query.

    Raises:
        SettingsError: So many different ones are not found.
    """
    rng = random.Random(f"judgements {seed}")  # noqa: S311 - a simulation, not a secret
    seen: set[str] = set()
    in_vain = 0
    while len(seen) < queries:
        intent = intent_met_by(rng, rng.choice(catalogue))
        query = phrase(rng, intent)
        if normalise_query(query) not in seen:
            in_vain = 0
            seen.add(normalise_query(query))
            yield _rows(rng, query, intent, catalogue, per_query)
        elif (in_vain := in_vain + 1) == _MOST_IN_VAIN:
            raise SettingsError(
                f"--queries {queries}: shoppers of {len(catalogue):,} products have no more than about {len(seen):,} "
                "different ones; ask for fewer, or set --products higher"
            )


def _rows(
    rng: random.Random, query: str, intent: QueryIntent, catalogue: Sequence[Product], count: int
) -> list[JudgedRow]:
    by_level: dict[int, list[Product]] = {level: [] for level in range(len(RATINGS))}
    for product in rng.sample(catalogue, len(catalogue)):
        by_level[relevance(intent, product)].append(product)
    share = count // len(RATINGS)
    found = [(product, level) for level in by_level if level != IRRELEVANT for product in by_level[level][:share]]
    found += [(product, IRRELEVANT) for product in by_level[IRRELEVANT][: count - len(found)]]
    return [JudgedRow(query, product.product_id, RATINGS[level]) for product, level in found]


def write_demo_shop(folder: Path, *, queries: int, per_query: int, products: int, seed: int) -> DemoShop:
    """Write ``products.jsonl``, ``truth.csv`` and ``judgments.csv``.

    Raises:
        SettingsError: The folder may not be written, or there are not so many different queries.
        TransientError: The disk is full.
    """
    catalogue = demo_catalogue(seed=seed, products=products)
    rows = list(demo_truth(catalogue, queries=queries, per_query=per_query, seed=seed))
    judged = rows[: max(1, round(queries * JUDGED_SHARE))]
    products_file, truth_file, judgments_file = (
        folder / name for name in ("products.jsonl", "truth.csv", "judgments.csv")
    )
    with whole_file(products_file) as file:
        file.writelines(product.model_dump_json(exclude_defaults=True).encode() + b"\n" for product in catalogue)
    for path, part in ((truth_file, rows), (judgments_file, judged)):
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(_HEADER)
        writer.writerows(row for of_query in part for row in of_query)
        with whole_file(path) as file:
            file.write(text.getvalue().encode())
    return DemoShop(products_file, truth_file, judgments_file, len(rows), len(judged), sum(map(len, rows)))
