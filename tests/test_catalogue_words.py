"""Words of a query against the fields of a product."""

from __future__ import annotations

import numpy as np

from labelstream.schemas.product import Product
from labelstream.training.catalogue_words import CatalogueWords
from labelstream.training.lexical import tokenise

PRODUCTS = [
    Product(product_id="1", title="Acme laptop bag", brand="Acme", description="For 15 inch notebooks"),
    Product(
        product_id="2", title="Umbra X1", brand="Umbra", category="Laptop", attributes={"colour": "red"}, price=np.e - 1
    ),
    Product(product_id="3", title="Umbra X2 red laptop", brand="Umbra"),
]
WORDS = CatalogueWords(PRODUCTS)
# title, text, category, brand, description, values, first, head, length, has category, attributes, price
PAIR_COLUMNS = 12


def of(query: str) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the pairs, and those of the query."""
    columns = np.stack(WORDS.signals(tokenise(query), np.arange(len(PRODUCTS))), axis=1)
    return columns[:, :PAIR_COLUMNS], columns[:, PAIR_COLUMNS:]


def test_every_field_has_its_share_of_the_words():
    pairs, _ = of("red Laptops")
    np.testing.assert_allclose(pairs[:, 0], [0.5, 0, 1])
    np.testing.assert_allclose(pairs[:, 1], [0.5, 1, 1])
    np.testing.assert_allclose(pairs[:, 2], [0, 0.5, 0])
    np.testing.assert_allclose(pairs[:, 5], [0, 0.5, 0])
    np.testing.assert_allclose(of("notebook umbra")[0][:, [3, 4]], [[0, 0.5], [0.5, 0], [0.5, 0]])


def test_the_place_in_the_title_and_what_its_last_word_says():
    pairs, _ = of("red laptop")
    np.testing.assert_allclose(pairs[:, 6], [1, 99, 2])
    np.testing.assert_allclose(pairs[:, 7], [1, 0, 1])
    np.testing.assert_allclose(pairs[:, 8], [3, 2, 4])


def test_a_product_alone_has_a_category_attributes_and_a_price():
    pairs, _ = of("anything")
    np.testing.assert_allclose(pairs[:, 9:], [[0, 0, 0], [1, 1, 1], [0, 0, 0]])


def test_a_query_alone_is_a_brand_or_not_and_common_or_not():
    _, query = of("umbra")
    np.testing.assert_allclose(query, [[1, 1, np.log(2), np.log(3), np.log(3)]] * 3)
    _, query = of("red laptop of umbra")
    np.testing.assert_allclose(query[0], [4, 0.25, 0, 0, 0])


def test_a_query_without_a_word_matches_nothing():
    pairs, _ = of("!!!")
    assert not pairs[:, :6].any()
    assert not pairs[:, 7].any()
    assert (pairs[:, 6] == 99).all()
