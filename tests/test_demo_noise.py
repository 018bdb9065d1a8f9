"""Noise for the demo labeller's training: it says nothing about a product, and the attacks are not in it."""

from __future__ import annotations

import random
import re
from itertools import islice

import pytest
from attacks import ATTACKS, neutral_text
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.product import Product
from labelstream.training.demo_catalogue import demo_catalogue
from labelstream.training.demo_noise import (
    BOILERPLATE,
    EVERYDAY,
    LONGEST,
    RUN,
    SHORTEST,
    NoiseSource,
    noise,
    with_noise,
)
from labelstream.training.demo_pairs import demo_pairs
from labelstream.training.demo_shop import BRANDS, CATEGORIES, SERIES, SYNONYMS

PRODUCT = demo_catalogue(products=1)[0]
SIZES = st.integers(SHORTEST, LONGEST)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def phrases(text: str, length: int = 3) -> set[tuple[str, ...]]:
    """All runs of so many words."""
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


@pytest.fixture(scope="module")
def training_texts() -> list[str]:
    """More than one training takes."""
    rng = random.Random(7)
    return [noise(rng, LONGEST) for _ in range(10_000)]


def test_no_attack_and_no_neutral_text_is_trained_on(training_texts: list[str]):
    kept = set().union(*(phrases(attack.text) for attack in ATTACKS), phrases(neutral_text(400)))
    kept = {phrase for phrase in kept if any(len(word) > 1 for word in phrase)}  # rows of single digits say nothing
    found = [phrase for text in training_texts for phrase in phrases(text) if phrase in kept]
    assert found == []
    assert not any(
        word in text.lower() for text in training_texts for word in ("rating", "ignore", "relevan", "system")
    )


def test_everyday_words_are_none_that_the_shop_uses():
    sold = [(c.name, *c.nouns, *c.options, *(v for values in c.options.values() for v in values)) for c in CATEGORIES]
    shop = {word for texts in sold for text in texts for word in words(text)}
    shop |= {word.lower() for brands in BRANDS.values() for word in (*brands, *SERIES)}
    shop |= {word for value, synonyms in SYNONYMS.items() for word in (value, *synonyms)}
    assert not shop & {*EVERYDAY, *words(" ".join(BOILERPLATE))}


@given(SIZES, st.integers())
def test_noise_is_as_long_as_asked_and_the_seed_decides(size: int, seed: int):
    text = noise(random.Random(seed), size)
    assert text == noise(random.Random(seed), size)
    assert 0 < len(text.casefold().encode()) <= 2 * size  # another case may take more bytes
    assert text.encode().decode() == text


@given(SIZES, st.integers())
def test_one_field_gets_longer_and_the_rest_stays(size: int, seed: int):
    given, got = PRODUCT.model_dump(), with_noise(random.Random(seed), PRODUCT, size).model_dump()
    [changed] = [field for field in given if got[field] != given[field]]
    if changed == "attributes":
        assert {name: got[changed][name] for name in given[changed]} == given[changed]
        assert len(got[changed]) == len(given[changed]) + 1
    else:
        assert got[changed].startswith(given[changed])


def test_noise_changes_no_query_and_no_level():
    catalogue = demo_catalogue()
    plain = islice(demo_pairs(catalogue, "training", seed=3), 20 * RUN)
    noisy = list(islice(demo_pairs(catalogue, "training", seed=3, noise=NoiseSource(3, 0.5, after=RUN)), 20 * RUN))
    same = [one.product_text == other.product_text for one, other in zip(plain, noisy, strict=True)]
    runs = [set(same[i : i + RUN]) for i in range(0, len(same), RUN)]
    assert runs[0] == {True}
    assert all(len(run) == 1 for run in runs)
    assert 4 <= runs.count({False}) <= 15
    plain = islice(demo_pairs(catalogue, "training", seed=3), 20 * RUN)
    assert [pair[::2] for pair in plain] == [pair[::2] for pair in noisy]


@pytest.mark.parametrize(("share", "changed"), [(0.0, 0), (1.0, 3 * RUN)])
def test_the_share_is_kept(share: float, changed: int):
    source = NoiseSource(1, share)
    passed: list[Product] = [source.add_to(PRODUCT) for _ in range(3 * RUN)]
    assert sum(product != PRODUCT for product in passed) == changed
