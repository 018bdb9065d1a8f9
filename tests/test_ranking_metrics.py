from __future__ import annotations

import shutil
from typing import Any

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from labelstream.training.ranking_metrics import GAINS, Gain, Ranking, add_to_cart_share, ndcg, rank

NAMES = ["tv", "TV ", "sofa", "lamp", "ＴＶ"]


@st.composite
def judged(draw: st.DrawFn) -> dict[str, Any]:
    """Pairs with ratings 0 to 3 and scores of which many are the same."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 3), st.integers(-3, 3)), min_size=1))
    return {
        "queries": [query for query, _, _ in pairs],
        "product_ids": [f"p{number}" for number in range(len(pairs))],
        "ratings": np.array([rating for _, rating, _ in pairs], np.float64),
        "scores": np.array([score for _, _, score in pairs]) / 7,
    }


def ranking_of(case: dict[str, Any]) -> Ranking:
    """By the scores."""
    return rank(case["queries"], case["product_ids"], case["scores"])


@given(judged())
def test_a_better_score_is_a_better_position(case: dict[str, Any]):
    ranking = ranking_of(case)
    for query in range(ranking.queries):
        inside = np.flatnonzero(ranking.query_numbers == query)
        in_order = inside[np.argsort(ranking.positions[inside])]
        assert sorted(ranking.positions[inside].tolist()) == list(range(1, len(inside) + 1))
        assert (np.diff(case["scores"][in_order]) <= 0).all()


@given(judged(), st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_matter(case: dict[str, Any], random: Any):
    order = list(range(len(case["queries"])))
    random.shuffle(order)
    moved = rank([case["queries"][i] for i in order], [case["product_ids"][i] for i in order], case["scores"][order])
    assert moved.positions.tolist() == ranking_of(case).positions[order].tolist()


def test_ties_favour_neither_the_truth_nor_the_file_nor_the_ids():
    queries = [f"query {number // 20}" for number in range(2000)]
    ids = [f"{number:05}" for number in range(2000)]
    ratings = np.array([3.0 * (number % 20 < 10) for number in range(2000)])
    tied = ndcg(rank(queries, ids, np.zeros(2000)), ratings)
    # Ten of twenty are relevant: a random order has them in each position with probability 1/2.
    assert tied.mean() == pytest.approx(0.5, abs=0.06)
    backwards = rank(queries[::-1], ids[::-1], np.zeros(2000)).positions[::-1]
    assert backwards.tolist() == rank(queries, ids, np.zeros(2000)).positions.tolist()


@given(judged(), st.integers(1, 12), st.sampled_from(GAINS))
def test_ndcg_is_that_of_scikit_learn(case: dict[str, Any], k: int, gain: Gain):
    ranking = ranking_of(case)
    found = ndcg(ranking, case["ratings"], k=k, gain=gain)
    gains = case["ratings"] if gain == "linear" else 2 ** case["ratings"] - 1
    for query in range(ranking.queries):
        inside = ranking.query_numbers == query
        if gains[inside].max() == 0:
            assert np.isnan(found[query])
        elif inside.sum() == 1:
            assert found[query] == 1
        else:
            expected = ndcg_score([gains[inside]], [-ranking.positions[inside]], k=k)
            assert found[query] == pytest.approx(expected)


@given(judged())
def test_ndcg_is_that_of_ir_measures(case: dict[str, Any]):
    ranking = ranking_of(case)
    numbers = ranking.query_numbers.tolist()
    qrels = [
        ir_measures.Qrel(str(query), str(pair), int(rating))
        for pair, (query, rating) in enumerate(zip(numbers, case["ratings"], strict=True))
    ]
    run = [
        ir_measures.ScoredDoc(str(query), str(pair), -float(position))
        for pair, (query, position) in enumerate(zip(numbers, ranking.positions, strict=True))
    ]
    expected = {metric.query_id: metric.value for metric in ir_measures.iter_calc([ir_measures.nDCG @ 10], qrels, run)}
    found = ndcg(ranking, case["ratings"])
    for query, value in enumerate(found):
        # trec_eval counts a query without a relevant product as 0.
        assert expected[str(query)] == pytest.approx(0.0 if np.isnan(value) else value)


@pytest.mark.skipif(not shutil.which("perl"), reason="no perl, which gdeval is written in")
def test_the_exponential_gain_is_that_of_gdeval():
    generator = np.random.default_rng(3)
    ratings, scores = generator.integers(0, 4, 60), generator.random(60)
    queries = [str(number // 20) for number in range(60)]
    ranking = rank(queries, [str(number) for number in range(60)], scores)
    qrels = [ir_measures.Qrel(queries[i], str(i), int(ratings[i])) for i in range(60)]
    run = [ir_measures.ScoredDoc(queries[i], str(i), float(scores[i])) for i in range(60)]
    measure = ir_measures.nDCG(dcg="exp-log2") @ 10
    expected = [metric.value for metric in ir_measures.gdeval.iter_calc([measure], qrels, run)]
    assert ndcg(ranking, ratings, gain="exponential").tolist() == pytest.approx(expected, abs=1e-5)


def test_scores_that_differ_only_in_double_precision_are_no_tie():
    scores = np.array([0.5, 0.5 + 1e-12, 0.5 + 2e-12])
    assert rank(["tv"] * 3, ["a", "b", "c"], scores).positions.tolist() == [3, 2, 1]
    assert rank(["tv"] * 3, ["a", "b", "c"], np.array([-np.inf, np.inf, 0])).positions.tolist() == [3, 1, 2]


def test_the_two_gains_differ_as_they_should():
    ranking = rank(["tv"] * 2, ["a", "b"], np.array([1.0, 0.0]))
    discount = 1 / np.log2(3)
    ratings = np.array([1.0, 3.0])
    assert ndcg(ranking, ratings) == pytest.approx([(1 + 3 * discount) / (3 + discount)])
    assert ndcg(ranking, ratings, gain="exponential") == pytest.approx([(1 + 7 * discount) / (7 + discount)])


def test_ratings_between_grades_count_to_a_thousandth():
    ranking = rank(["tv"] * 3, ["a", "b", "c"], np.array([3.0, 2.0, 1.0]))
    ratings = np.array([0.5, 2.25, 1.0])
    for gain, gains in (("linear", ratings), ("exponential", 2**ratings - 1)):
        assert ndcg(ranking, ratings, gain=gain) == pytest.approx([ndcg_score([gains], [[3, 2, 1]])], abs=1e-3)


@pytest.mark.parametrize("ratings", [[-1.0, 2.0], [np.nan, 2.0], [100.0, 2.0], [np.inf, 2.0], [2000.0, 0.0]])
def test_ratings_that_have_no_gain_are_refused(ratings: list[float]):
    ranking = rank(["tv"] * 2, ["a", "b"], np.zeros(2))
    with pytest.raises(ValueError, match="rating"):
        ndcg(ranking, np.array(ratings), gain="exponential")


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="score of pair 1 is NaN"):
        rank(["tv"] * 2, ["a", "b"], np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="2 queries, 1 products and 2 scores"):
        rank(["tv"] * 2, ["a"], np.zeros(2))
    with pytest.raises(ValueError, match="add-to-carts"):
        add_to_cart_share(rank(["tv"], ["a"], np.zeros(1)), np.array([-1]))


def test_add_to_carts_near_the_top():
    queries = ["tv"] * 3 + ["sofa"] * 2 + ["lamp"]
    ranking = rank(queries, list("abcdef"), np.array([3, 2, 1, 1, 2, 1]))
    carts = np.array([1, 2, 7, 4, 0, 0])
    np.testing.assert_array_equal(add_to_cart_share(ranking, carts, k=2), [0.3, np.nan, np.nan])
    np.testing.assert_array_equal(add_to_cart_share(ranking, carts, k=1), [0.1, 0.0, np.nan])


@given(judged(), st.integers(1, 10))
def test_the_share_of_add_to_carts_grows_with_the_cutoff(case: dict[str, Any], k: int):
    ranking = ranking_of(case)
    few, more = (add_to_cart_share(ranking, case["ratings"], k=cutoff) for cutoff in (k, k + 1))
    known = ~np.isnan(more)
    assert (few[known] <= more[known]).all()
    assert (more[known] <= 1).all()
    assert np.isnan(add_to_cart_share(ranking, case["ratings"], k=len(case["queries"]))).all()
