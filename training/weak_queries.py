"""Queries that nobody has judged, made from the catalogue itself: what its shoppers might type."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product

_WORD = re.compile(r"[^\W\d_][\w'-]+")
_GLUE = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "per", "the", "to", "with"}
)
_LONGEST_PHRASE = 3
_RAREST, _COMMONEST_SHARE = 3, 0.03
# Of the queries that are made: phrases of titles, categories, brands with a phrase; what is short goes to phrases.
_CATEGORIES, _BRANDED = 0.1, 0.15


def catalogue_queries(products: Sequence[Product], count: int, *, seed: int) -> list[str]:
    """Draw queries from a catalogue: phrases of its titles, its categories, a brand with a phrase.

    Args:
        products: The catalogue.
        count: How many to draw; fewer come back where the catalogue has no more.
        seed: The same catalogue and seed give the same queries.

    Returns:
        Different normalised queries.
    """
    rng = np.random.default_rng(seed)
    phrases, weights = _phrases(products)
    categories = sorted({normalise_query(product.category) for product in products if product.category})
    brands = sorted({normalise_query(product.brand) for product in products if product.brand})
    found = _some(rng, categories, round(count * _CATEGORIES))
    if phrases:
        branded = min(round(count * _BRANDED), len(brands) * len(phrases))
        found += [f"{rng.choice(brands)} {rng.choice(phrases, p=weights)}" for _ in range(branded)]
        wanted = min(max(0, count - len(found)), len(phrases))
        found += [str(phrase) for phrase in rng.choice(phrases, wanted, replace=False, p=weights)]
    return list(dict.fromkeys(found))


def _some(rng: np.random.Generator, texts: list[str], count: int) -> list[str]:
    return [texts[i] for i in rng.permutation(len(texts))[:count]]


def _phrases(products: Sequence[Product]) -> tuple[list[str], np.ndarray]:
    """Phrases of one to three words that several titles have, not too many; the more titles, the likelier."""
    counts: Counter[str] = Counter()
    for product in products:
        words = _WORD.findall(normalise_query(product.title))
        spans = {
            " ".join(words[start : start + length])
            for length in range(1, _LONGEST_PHRASE + 1)
            for start in range(len(words) - length + 1)
            if words[start] not in _GLUE and words[start + length - 1] not in _GLUE
        }
        counts.update(spans)
    most = max(_RAREST, _COMMONEST_SHARE * len(products))
    kept = sorted(phrase for phrase, titles in counts.items() if _RAREST <= titles <= most)
    weights = np.sqrt([counts[phrase] for phrase in kept])
    return kept, weights / weights.sum()
