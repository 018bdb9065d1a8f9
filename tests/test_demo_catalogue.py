"""The made-up shop: repeatable, well-formed, and true to its own definition of relevance."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.messages import parse_product
from labelstream.schemas.product import Product
from labelstream.training.demo_catalogue import (
    HIGH,
    IRRELEVANT,
    MODERATE,
    QueryIntent,
    demo_catalogue,
    intent_met_by,
    phrase,
    relevance,
)
from labelstream.training.demo_shop import BRANDS, CATEGORIES, SYNONYMS

CATALOGUE = demo_catalogue()
seeds = st.integers(0, 2**32)


def test_the_seed_decides():
    assert demo_catalogue() == CATALOGUE
    assert demo_catalogue(seed=2) != CATALOGUE


def test_the_global_generator_is_left_alone():
    before = random.getstate()
    demo_catalogue(products=50)
    assert random.getstate() == before


def test_categories_are_of_equal_size_and_ids_unique():
    sizes = Counter(product.category for product in CATALOGUE)
    assert len(CATALOGUE) == 600
    assert set(sizes) == {category.name for category in CATEGORIES}
    assert max(sizes.values()) - min(sizes.values()) <= 1
    ids = [name for product in CATALOGUE for name in (product.product_id, *product.alternative_ids)]
    assert len(set(ids)) == len(ids)


def test_products_survive_the_wire():
    assert [parse_product(product.model_dump_json().encode()) for product in CATALOGUE] == CATALOGUE


@pytest.mark.parametrize("product", CATALOGUE[:30], ids=lambda product: product.product_id)
def test_eans_have_a_right_check_digit(product: Product):
    (ean,) = product.alternative_ids
    weighted = sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(ean))
    assert len(ean) == 13
    assert weighted % 10 == 0


def test_prices_and_brands_are_the_categorys():
    shelves = {category.name: category for category in CATEGORIES}
    for product in CATALOGUE:
        low, high = shelves[product.category].prices
        assert low <= product.price <= high
        assert product.brand in BRANDS[shelves[product.category].department]


def test_the_shop_is_consistent():
    names = {category.name for category in CATEGORIES}
    values = {value for category in CATEGORIES for options in category.options.values() for value in options}
    assert set(SYNONYMS) <= values
    assert not values & {word for words in SYNONYMS.values() for word in words}
    for category in CATEGORIES:
        assert set(category.substitutes) <= names - {category.name}


@given(seeds, st.sampled_from(CATALOGUE))
def test_an_intent_is_met_by_the_product_it_was_read_off(seed: int, product: Product):
    assert relevance(intent_met_by(random.Random(seed), product), product) == HIGH


@given(seeds, st.sampled_from(CATALOGUE), st.sampled_from(CATALOGUE))
def test_only_the_right_category_or_a_substitute_is_relevant(seed: int, wanted: Product, offered: Product):
    substitutes = next(category.substitutes for category in CATEGORIES if category.name == wanted.category)
    level = relevance(intent_met_by(random.Random(seed), wanted), offered)
    assert (level == IRRELEVANT) == (offered.category not in (wanted.category, *substitutes))


def test_a_wrong_brand_or_option_is_moderate():
    lamp = next(product for product in CATALOGUE if product.category == "Desk Lamps")
    other = next(brand for brand in BRANDS["home"] if brand != lamp.brand)
    assert relevance(QueryIntent("Desk Lamps"), lamp) == HIGH
    assert relevance(QueryIntent("Desk Lamps", brand=other), lamp) == MODERATE
    assert relevance(QueryIntent("Desk Lamps", options=(("material", "velvet"),)), lamp) == MODERATE
    assert relevance(QueryIntent("Floor Lamps"), lamp) == MODERATE
    assert relevance(QueryIntent("Tents"), lamp) == IRRELEVANT


@given(seeds, st.sampled_from(CATALOGUE))
def test_a_query_is_one_short_line_that_says_all_that_is_wanted(seed: int, product: Product):
    rng = random.Random(seed)
    intent = intent_met_by(rng, product)
    query = phrase(rng, intent)
    assert query == " ".join(query.split())
    assert len(query) <= 80
    assert intent.brand.lower() in query.lower()
    for _, value in intent.options:
        assert any(word in query.lower().split() for word in (value, *SYNONYMS.get(value, ())))


def test_the_same_intent_is_put_in_different_words():
    rng = random.Random(1)
    intent = QueryIntent("Sweaters", "Norwick", (("colour", "grey"),))
    assert len({phrase(rng, intent) for _ in range(100)}) > 20
