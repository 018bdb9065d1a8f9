"""Queries that nobody has judged, made from the catalogue itself: what its shoppers might type."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats

_WORD = re.compile(r"[^\W\d_][\w'-]+")
_GLUE = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "per", "the", "to", "with"}
)
# Shares of phrases of one, two and three words: shoppers type few, while a title has as many long ones as short ones.
_LENGTHS = (0.35, 0.45, 0.2)
_RAREST, _COMMONEST_SHARE = 3, 0.1
# Of the queries that are made: categories, brands, brands with a phrase of titles; the rest are phrases alone.
_CATEGORIES, _BRANDS, _BRANDED = 0.1, 0.1, 0.1


def catalogue_queries(products: Sequence[Product], count: int, *, seed: int) -> list[str]:
    """Draw queries from a catalogue: phrases of its titles, its categories, its brands, a brand with a phrase.

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
    sizes = Counter(normalise_query(product.brand) for product in products if product.brand)
    brands = sorted(sizes)
    found = _some(rng, categories, round(count * _CATEGORIES))
    found += _some(rng, brands, round(count * _BRANDS), np.sqrt([sizes[brand] for brand in brands]))
    if phrases:
        branded = min(round(count * _BRANDED), len(brands) * len(phrases))
        found += [f"{rng.choice(brands)} {rng.choice(phrases, p=weights)}" for _ in range(branded)]
        wanted = min(max(0, count - len(found)), len(phrases))
        found += [str(phrase) for phrase in rng.choice(phrases, wanted, replace=False, p=weights)]
    return list(dict.fromkeys(found))


def _some(rng: np.random.Generator, texts: list[str], count: int, weights: Floats | None = None) -> list[str]:
    """Different texts, the heavier the likelier; all of them where there are fewer than wanted."""
    chances = None if weights is None else weights / weights.sum()
    return [texts[i] for i in rng.choice(len(texts), min(count, len(texts)), replace=False, p=chances)] if texts else []


def _phrases(products: Sequence[Product]) -> tuple[list[str], Floats]:
    """Phrases of one to three words that several titles have, not too many, and how likely each is.

    Of phrases of one length, the more titles have it the likelier it is.
    """
    counts: Counter[str] = Counter()
    for product in products:
        words = _WORD.findall(normalise_query(product.title))
        spans = {
            " ".join(words[start : start + length])
            for length in range(1, len(_LENGTHS) + 1)
            for start in range(len(words) - length + 1)
            if words[start] not in _GLUE and words[start + length - 1] not in _GLUE
        }
        counts.update(spans)
    most = max(_RAREST, _COMMONEST_SHARE * len(products))
    kept = sorted(phrase for phrase, titles in counts.items() if _RAREST <= titles <= most)
    weights = np.sqrt([counts[phrase] for phrase in kept])
    lengths = np.array([len(phrase.split()) for phrase in kept], np.int64)
    for length, share in enumerate(_LENGTHS, start=1):
        weights[lengths == length] *= share / max(1e-9, weights[lengths == length].sum())
    return kept, weights / weights.sum()
