from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.http import InlineProduct
from labelstream.schemas.product import Product
from labelstream.training.features import FEATURES, GROUPS, EngagementHistory, FeatureTable, build_features
from labelstream.training.lexical import LexicalIndex, LexicalStatistics

CATALOGUE = [
    Product(product_id="red", title="Red sofa", price=99.0),
    Product(product_id="blue", title="Blue sofa", price=399.0),
    Product(product_id="lamp", title="Lamp"),
    Product(product_id="free", title="Free sample", price=0.0),
]
INDEX = LexicalIndex(CATALOGUE)
QUERIES = ["red sofa", "Red  sofa", "red sofa", "lamp"]
DAY = date(2026, 3, 1)


def history(pairs: int) -> EngagementHistory:
    counts = np.arange(pairs * 4).reshape(pairs, 4)
    return EngagementHistory(DAY, counts, counts * 10)


def table() -> FeatureTable:
    scores = np.array([0.9, 0.5, np.nan, 0.1])
    return build_features(QUERIES, CATALOGUE, INDEX, cross_encoder_scores=scores, history=history(4))


def column(features: FeatureTable, name: str) -> list[float]:
    return features.values[:, features.names.index(name)].tolist()


def test_all_features_are_there_in_their_order():
    features = table()
    assert features.names == tuple(feature.name for feature in FEATURES)
    assert features.values.shape == (4, len(FEATURES))
    assert {feature.group for feature in FEATURES} == set(GROUPS)
    assert all(feature.meaning for feature in FEATURES)
    assert set(LexicalStatistics._fields) < set(features.names)


def test_the_names_are_stable():
    """Saved models and search engines refer to them: to rename one is to break those."""
    assert [feature.name for feature in FEATURES] == [
        "cross_encoder_score", "bm25_title", "bm25_text", "query_share_in_title", "query_share_in_text",
        "phrase_in_title", "number_tokens_found", "number_tokens_missed", "query_tokens", "title_tokens",
        "text_tokens", "price", "price_to_median",
        "pair_impressions", "pair_clicks", "pair_add_to_carts", "pair_purchases",
        "pair_clicks_rate", "pair_add_to_carts_rate", "pair_purchases_rate",
        "product_impressions", "product_clicks", "product_add_to_carts", "product_purchases",
        "product_clicks_rate", "product_add_to_carts_rate", "product_purchases_rate",
    ]  # fmt: skip


def test_features_of_words_are_those_of_the_index():
    features, statistics = table(), INDEX.statistics(QUERIES, CATALOGUE)
    for name, values in statistics._asdict().items():
        assert column(features, name) == values.tolist()


def test_a_price_is_compared_with_the_median_of_its_query():
    features = table()
    np.testing.assert_allclose(column(features, "price"), np.log1p([99, 399, np.nan, 0]), rtol=1e-6)
    median = np.log([100, 400]).mean()
    expected = [np.log(100) - median, np.log(400) - median, np.nan, 0]
    np.testing.assert_allclose(column(features, "price_to_median"), expected, rtol=1e-5)


def test_counts_are_logs_and_rates_do_not_trust_rare_pairs():
    counts = np.array([[1, 1, 0, 0], [1000, 500, 100, 10], [0, 0, 0, 0], [0, 7, 0, 0]])
    features = build_features(QUERIES, CATALOGUE, INDEX, history=EngagementHistory(DAY, counts, counts))
    np.testing.assert_allclose(column(features, "pair_clicks"), np.log1p([1, 500, 0, 7]), rtol=1e-6)
    np.testing.assert_allclose(column(features, "product_clicks_rate"), [1 / 11, 500 / 1010, 0, 0.7], rtol=1e-6)
    np.testing.assert_allclose(column(features, "pair_purchases_rate"), [0, 10 / 1010, 0, 0], rtol=1e-6)


def test_what_is_not_given_has_no_column():
    features = build_features(QUERIES, CATALOGUE, INDEX)
    groups = {feature.group for feature in FEATURES if feature.name in features.names}
    assert groups == {"lexical", "text", "price"}
    assert features.names == table().without("cross_encoder", "engagement").names
    np.testing.assert_array_equal(features.values, table().without("cross_encoder", "engagement").values)


def test_a_score_that_is_missing_stays_missing():
    assert np.isnan(column(table(), "cross_encoder_score")).tolist() == [False, False, True, False]


@given(st.permutations(range(4)))
def test_the_order_of_the_pairs_does_not_matter(order: list[int]):
    queries, products = [QUERIES[i] for i in order], [CATALOGUE[i] for i in order]
    moved = build_features(queries, products, INDEX, history=history(4))
    straight = build_features(QUERIES, CATALOGUE, INDEX, history=history(4)).select(np.array(order))
    kept = [column for column, name in enumerate(moved.names) if not name.startswith(("pair_", "product_"))]
    np.testing.assert_array_equal(moved.values[:, kept], straight.values[:, kept])


def test_no_pairs_make_an_empty_table():
    features = build_features([], [], INDEX, cross_encoder_scores=np.zeros(0), history=history(0))
    assert features.values.shape == (0, len(FEATURES))


def test_a_selection_has_its_rows():
    features = table()
    np.testing.assert_array_equal(features.select(np.array([2, 0])).values, features.values[[2, 0]])


def test_columns_can_be_chosen_by_name_in_any_order():
    features = table().only(("price", "bm25_title"))
    assert features.names == ("price", "bm25_title")
    np.testing.assert_array_equal(features.values.T, [column(table(), "price"), column(table(), "bm25_title")])
    with pytest.raises(SettingsError, match="no feature is called weather, wind; there are cross_encoder_score"):
        table().only(("price", "weather", "wind"))


def test_a_product_of_no_catalogue_has_features_too():
    strange = [InlineProduct(title="Red sofa"), *CATALOGUE[1:]]
    features, usual = build_features(QUERIES, strange, INDEX), build_features(QUERIES, CATALOGUE, INDEX)
    assert column(features, "bm25_title") == column(usual, "bm25_title")
    assert np.isnan(column(features, "price")[0])
    assert np.isnan(column(features, "price_to_median")[0])


def test_a_group_that_does_not_exist_is_named_and_so_are_those_that_do():
    with pytest.raises(SettingsError, match="called popularity; there are cross_encoder, lexical"):
        table().without("popularity")


def test_a_table_without_features_is_refused():
    with pytest.raises(SettingsError, match="no feature is left"):
        table().without(*GROUPS)


def test_an_infinite_value_is_named():
    with pytest.raises(SettingsError, match="feature cross_encoder_score: infinite for pair 1"):
        build_features(QUERIES, CATALOGUE, INDEX, cross_encoder_scores=np.array([0, np.inf, 0, 0]))


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((4, 1))])
def test_scores_that_do_not_fit_the_pairs_are_refused(scores: np.ndarray):
    with pytest.raises(ValueError, match="cross_encoder_score: must have one entry for each of the 4 pairs"):
        build_features(QUERIES, CATALOGUE, INDEX, cross_encoder_scores=scores)


@pytest.mark.parametrize(
    ("names", "values"),
    [(("a",), np.zeros((2, 1))), (("a",), np.zeros((2, 2), np.float32)), (("a", "a"), np.zeros((2, 2), np.float32))],
)
def test_a_table_that_does_not_fit_its_names_is_refused(names: tuple[str, ...], values: np.ndarray):
    with pytest.raises(ValueError, match=r"float32|one name"):
        FeatureTable(names, values)
