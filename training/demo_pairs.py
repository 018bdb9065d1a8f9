"""Labelled pairs of the made-up shop, split by what is asked for."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from labelstream.schemas.product import Product, product_text
from labelstream.training.demo_catalogue import HIGH, QueryIntent, intent_met_by, phrase, relevance
from labelstream.training.demo_noise import NoiseSource

Split = Literal["training", "validation", "held_out"]

LEVELS = 3
_TRIES = 50


class DemoPair(NamedTuple):
    """One pair and its true level."""

    query: str
    product_text: str
    level: int


def split_of(intent: QueryIntent) -> Split:
    """Where an intent belongs: 80 % training, 10 % validation, 10 % held out.

    The intent decides and not its wording, so that no paraphrase of a held-out query is ever trained on. An
    intent that asks for nothing but a category is always trained on: the words for it cannot be learned elsewhere.
    """
    if not intent.brand and not intent.options:
        return "training"
    tenth = hashlib.blake2b(repr(intent).encode()).digest()[0] % 10
    return "held_out" if tenth == 0 else "validation" if tenth == 1 else "training"


def demo_pairs(
    catalogue: Sequence[Product], split: Split, *, seed: int, noise: NoiseSource | None = None
) -> Iterator[DemoPair]:
    """Draw pairs without end, the levels in turn.

    Args:
        catalogue: Where the products come from.
        split: Which intents may be drawn.
        seed: The same seed gives the same pairs.
        noise: Adds text that says nothing to some of the products; queries, products and levels are the same
            with and without.

    Yields:
        Pairs with levels 0, 1, 2, 0, 1, 2, …
    """
    rng = random.Random(f"{split} {seed}")  # noqa: S311 - a simulation, not a secret
    level = 0
    while True:
        source = rng.choice(catalogue)
        intent = intent_met_by(rng, source)
        product = source if level == HIGH else _product_of_level(rng, intent, level, catalogue)
        if product is not None and split_of(intent) == split:
            yield DemoPair(phrase(rng, intent), product_text(noise.add_to(product) if noise else product), level)
            level = (level + 1) % LEVELS


def _product_of_level(
    rng: random.Random, intent: QueryIntent, level: int, catalogue: Sequence[Product]
) -> Product | None:
    """Some product at that level, or None: nothing is moderate for a bare category without substitutes."""
    candidates = rng.choices(catalogue, k=_TRIES)
    return next((product for product in candidates if relevance(intent, product) == level), None)
