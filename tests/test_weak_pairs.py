"""A teacher that is right more often than chance, about pairs that nobody has judged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import CATALOGUE, demo_judged, embed_words, judged_queries, one_thread

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product
from labelstream.training.catalogue_index import CatalogueIndex
from labelstream.training.demo_catalogue import relevance
from labelstream.training.judgments import JudgedPairs
from labelstream.training.weak_pairs import Teacher, WeakPairs, make_weak_pairs
from labelstream.training.weak_queries import catalogue_queries

SEEDS = st.integers(0, 2**32 - 1)
LEVELS = 3
SHARE = 0.5
JUDGED = demo_judged()
# What shoppers might have typed, of which some are judged, and one is a judged one in another spelling.
LOG = [*(query for query, _ in judged_queries(60, seed=7)), f"  {JUDGED.queries[0].swapcase()} ", *JUDGED.queries[:3]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def index() -> CatalogueIndex:
    return CatalogueIndex(CATALOGUE, embed_words)


def teacher_of(judged: JudgedPairs, index: CatalogueIndex, *, rater_share: float = SHARE) -> Teacher:
    return Teacher(index, LEVELS, seed=1, rater_share=rater_share).fit(judged)


@pytest.fixture(scope="module")
def teacher(index: CatalogueIndex) -> Teacher:
    return teacher_of(JUDGED, index)


@pytest.fixture(scope="module")
def weak(index: CatalogueIndex) -> WeakPairs:
    return make_weak_pairs(JUDGED, index, levels=LEVELS, count=400, seed=1, rater_share=SHARE, queries=LOG)


class TestQueries:
    @settings(max_examples=20)
    @given(st.integers(0, 300), SEEDS)
    def test_they_are_different_and_normalised_and_not_too_many(self, count: int, seed: int):
        found = catalogue_queries(CATALOGUE, count, seed=seed)
        assert found == catalogue_queries(CATALOGUE, count, seed=seed)
        assert len(found) == len(set(found)) <= count
        assert all(query and query == normalise_query(query) for query in found)

    def test_there_are_nearly_as_many_as_wanted_and_the_seed_decides(self):
        first, second = (catalogue_queries(CATALOGUE, 100, seed=seed) for seed in (1, 2))
        assert min(len(first), len(second)) > 90
        assert set(first) != set(second)

    def test_categories_brands_and_titles_all_give_some(self):
        found = catalogue_queries(CATALOGUE, 100, seed=1)
        categories = {normalise_query(product.category) for product in CATALOGUE}
        brands = {normalise_query(product.brand) for product in CATALOGUE}
        titles = [normalise_query(product.title) for product in CATALOGUE]
        assert categories & set(found)
        assert brands & set(found)
        assert any(query.split()[0] in brands for query in set(found) - brands)
        assert any(sum(query in title for title in titles) >= 3 for query in set(found) - categories)

    def test_phrases_of_titles_are_short(self):
        categories_and_brands = {normalise_query(name) for p in CATALOGUE for name in (p.category, p.brand)}
        phrases = set(catalogue_queries(CATALOGUE, 100, seed=1)) - categories_and_brands
        brands = {normalise_query(product.brand) for product in CATALOGUE}
        lengths = [len(query.split()) for query in phrases if query.split()[0] not in brands]
        assert 0.5 < np.mean(np.array(lengths) <= 2) < 1
        assert {1, 2, 3} == set(lengths)

    @pytest.mark.parametrize(
        "products",
        [
            [],
            [Product(product_id="1", title="lamp")],
            [Product(product_id="1", title="!!!", brand="Acme", category="Lamps")],
            [Product(product_id=str(number), title="a of the", brand="Acme") for number in range(9)],
            [Product(product_id=str(number), title="red lamp") for number in range(9)],
        ],
    )
    def test_small_catalogues_give_what_they_have(self, products: list[Product]):
        found = catalogue_queries(products, 50, seed=1)
        known = normalise_query(" ".join(f"{product.title} {product.brand} {product.category}" for product in products))
        assert all(query in known for query in found)


class TestTeacher:
    def test_it_judges_other_queries_clearly_better_than_chance(self, teacher: Teacher):
        asked = {normalise_query(query) for query in JUDGED.queries}
        queries = [(q, intent) for q, intent in judged_queries(60, seed=9) if normalise_query(q) not in asked]
        rng = np.random.default_rng(1)
        names, rows, truth = [], [], []
        for query, intent in queries:
            by_level = np.array([relevance(intent, product) for product in CATALOGUE])
            for level in range(LEVELS):
                chosen = rng.permutation(np.flatnonzero(by_level == level))[:2]
                names += [query] * len(chosen)
                rows += chosen.tolist()
                truth += [level] * len(chosen)
        found = teacher.distributions(names, np.array(rows))
        np.testing.assert_allclose(found.sum(axis=1), 1)
        right = (found.argmax(axis=1) == truth).mean()
        assert right > max(np.bincount(truth)) / len(truth) + 0.25
        chance = found[np.arange(len(truth)), truth]
        assert -np.log(chance).mean() < 0.8 * np.log(LEVELS)

    def test_a_pair_is_judged_the_same_whoever_stands_beside_it(self, teacher: Teacher):
        names, rows = list(JUDGED.queries[:40]), np.arange(40)
        found = teacher.distributions(names, rows)
        order = np.random.default_rng(1).permutation(40)
        shuffled = teacher.distributions([names[i] for i in order], rows[order])
        np.testing.assert_allclose(shuffled, found[order], atol=1e-9)

    def test_a_level_that_nobody_gave_has_no_chance(self, index: CatalogueIndex):
        two = JUDGED.select(np.flatnonzero(JUDGED.levels != 1))
        found = teacher_of(two, index).distributions(["red scarf"] * 5, np.arange(5))
        assert found.shape == (5, LEVELS)
        assert not found[:, 1].any()
        np.testing.assert_allclose(found.sum(axis=1), 1)

    def test_products_that_the_catalogue_lacks_are_passed_over(self, index: CatalogueIndex):
        strangers = tuple(product.model_copy(update={"product_id": "?"}) for product in JUDGED.products)
        parts = [(*part, *part) for part in (JUDGED.queries, JUDGED.ratings.tolist(), (2 - JUDGED.levels).tolist())]
        levels = np.concatenate([JUDGED.levels, 2 - JUDGED.levels])
        both = JudgedPairs(parts[0], JUDGED.products + strangers, np.array(parts[1]), levels)
        asked = ["red scarf"] * 9, np.arange(9)
        found = teacher_of(both, index).distributions(*asked)
        np.testing.assert_allclose(found, teacher_of(JUDGED, index).distributions(*asked), atol=1e-9)

    def test_it_learns_what_the_raters_said_as_far_as_is_wanted(self, index: CatalogueIndex):
        worst = np.zeros((len(JUDGED), 1), np.int64)
        stern = JudgedPairs(JUDGED.queries, JUDGED.products, JUDGED.ratings, JUDGED.levels, worst)
        asked = list(JUDGED.queries), np.array([index.row_of[product_id] for product_id in JUDGED.product_ids])
        unheard, half, most = (
            teacher_of(stern, index, rater_share=share).distributions(*asked) for share in (0.0, 0.5, 0.9)
        )
        np.testing.assert_allclose(unheard, teacher_of(JUDGED, index).distributions(*asked), atol=1e-9)
        assert unheard[:, 0].mean() + 0.1 < half[:, 0].mean() < most[:, 0].mean() - 0.1

    @pytest.mark.parametrize("kept", ["no product", "one level"])
    def test_nothing_to_learn_is_said_so(self, index: CatalogueIndex, kept: str):
        judged = JUDGED.select(np.flatnonzero(JUDGED.levels == 2))
        if kept == "no product":
            strangers = tuple(product.model_copy(update={"product_id": "?"}) for product in JUDGED.products)
            judged = JudgedPairs(JUDGED.queries, strangers, JUDGED.ratings, JUDGED.levels)
        with pytest.raises(SettingsError, match="--weak-pairs 0"):
            teacher_of(judged, index)


class TestPairs:
    def test_the_same_input_and_seed_give_the_same_pairs(self, index: CatalogueIndex, weak: WeakPairs):
        again = make_weak_pairs(JUDGED, index, levels=LEVELS, count=400, seed=1, rater_share=SHARE, queries=LOG)
        assert (again.queries, again.products) == (weak.queries, weak.products)
        np.testing.assert_array_equal(again.distributions, weak.distributions)

    def test_no_judged_query_is_among_them_in_any_spelling(self, weak: WeakPairs):
        asked = {normalise_query(query) for query in weak.queries}
        assert not asked & {normalise_query(query) for query in JUDGED.queries}

    def test_the_log_goes_first_and_gives_half_of_the_queries_at_most(self, weak: WeakPairs):
        asked = list(dict.fromkeys(weak.queries))
        logged = {normalise_query(query) for query in LOG}
        from_log = [query in logged for query in asked]
        assert from_log == sorted(from_log, reverse=True)
        assert 0.3 * len(asked) < sum(from_log) <= 0.55 * len(asked)

    def test_there_are_about_as_many_as_wanted_and_each_is_a_pair_once(self, weak: WeakPairs):
        assert 300 < len(weak.queries) <= 420
        assert len(weak.queries) == len(weak.products) == len(weak.distributions)
        ids = [product.product_id for product in weak.products]
        assert len(set(zip(weak.queries, ids, strict=True))) == len(ids)
        np.testing.assert_allclose(weak.distributions.sum(axis=1), 1)
        assert weak.texts[0] == list(weak.queries)

    def test_without_a_log_the_catalogue_gives_all(self, index: CatalogueIndex):
        per_query = len(index.candidates("a", np.random.default_rng(1)))
        found = make_weak_pairs(JUDGED, index, levels=LEVELS, count=5 * per_query, seed=1, rater_share=SHARE)
        assert list(dict.fromkeys(found.queries)) == catalogue_queries(CATALOGUE, 5, seed=1)

    @pytest.mark.parametrize("title", ["lamp", "!!!"])
    def test_a_catalogue_that_gives_no_query_is_said_so(self, title: str):
        products = [Product(product_id="1", title=title), Product(product_id="2", title=title)]
        judged = JudgedPairs(("lamp", "sofa"), tuple(products), np.array([0.0, 3.0]), np.array([0, 2]))
        with pytest.raises(SettingsError, match="--weak-pairs 0"):
            make_weak_pairs(
                judged, CatalogueIndex(products, embed_words), levels=LEVELS, count=50, seed=1, rater_share=SHARE
            )
