"""A product beside the best ones for a query."""

from __future__ import annotations

import numpy as np
import pytest

from labelstream.schemas.product import Product
from labelstream.training.catalogue_neighbours import CatalogueNeighbours

NOTEBOOKS, BAGS = 30, 30
CHOICE = np.arange(NOTEBOOKS + BAGS)
CATEGORY, BRAND, CENTRE, LIKE, ATTRIBUTES, PRICE = 0, 2, 4, 5, 6, 7
PER_COUNT = 8


def product(number: int, *, is_bag: bool) -> Product:
    return Product(
        product_id=str(number),
        title="bag" if is_bag else "notebook",
        brand="Acme" if number % 2 else "ACME",
        category="Bag" if is_bag else "Notebook",
        attributes={"material": "wool"} if is_bag else {"processor": "fast", "memory": "large"},
        price=30 if is_bag else 900,
    )


@pytest.fixture(scope="module")
def signals() -> np.ndarray:
    """Of all products, for a query whose best products are the notebooks."""
    products = [product(number, is_bag=number >= NOTEBOOKS) for number in CHOICE]
    angles = np.where(CHOICE < NOTEBOOKS, 0.1, 1.2) + 0.001 * CHOICE
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    scores = 3.0 - angles
    return np.stack(CatalogueNeighbours(products, vectors).signals(scores, CHOICE), axis=1)


def test_the_best_twenty_are_notebooks_and_so_a_bag_is_unlike_them(signals: np.ndarray):
    notebook, bag = signals[0], signals[-1]
    assert notebook[CATEGORY] == pytest.approx(1)
    assert bag[CATEGORY] == 0
    assert notebook[CENTRE] > 0.99 > bag[CENTRE]
    assert notebook[LIKE] > 0.99 > bag[LIKE]
    assert notebook[ATTRIBUTES] > 0.9
    assert bag[ATTRIBUTES] < 0.2
    assert notebook[PRICE] == 0
    assert bag[PRICE] == pytest.approx(np.log(31 / 901))


def test_brands_are_the_same_in_any_spelling(signals: np.ndarray):
    np.testing.assert_allclose(signals[:, BRAND], 1)


def test_who_is_like_the_good_ones_is_among_them(signals: np.ndarray):
    among = signals[:, -1]
    assert among[:NOTEBOOKS].min() > 0 > among[NOTEBOOKS:].max()


def test_a_hundred_best_are_counted_apart(signals: np.ndarray):
    assert signals.shape == (len(CHOICE), 2 * PER_COUNT + 1)
    both = signals[[0, -1], PER_COUNT + CATEGORY]
    assert both.sum() == pytest.approx(1)
    assert both[0] > both[1] > 0
