"""What a judge is to answer, and how much each pair counts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from judged import demo_judged, with_raters
from models import word_piece_tokenizer
from sklearn.utils.class_weight import compute_sample_weight

from labelstream.schemas.pair_encoder import PairEncoder
from labelstream.schemas.product import Product
from labelstream.training.examples import Examples, judged_examples, weak_examples
from labelstream.training.judge_models import TrainableJudge
from labelstream.training.judgments import MISSING, JudgedPairs
from labelstream.training.wanted_answers import class_weights, wanted_distributions
from labelstream.training.weak_pairs import WeakPairs

SHARES = st.floats(0, 1)
LEVELS = 3


def judged_as(levels: list[int], rater_levels: np.ndarray | None = None) -> JudgedPairs:
    """Pairs of which nothing but the levels matters."""
    product = Product(product_id="1", title="sofa")
    count = len(levels)
    found = np.array(levels, np.int64)
    return JudgedPairs(("sofa",) * count, (product,) * count, found.astype(float), found, rater_levels)


@st.composite
def rated(draw: st.DrawFn) -> JudgedPairs:
    levels = draw(st.lists(st.integers(0, LEVELS - 1), min_size=1, max_size=12))
    raters = draw(st.integers(1, 4))
    said = draw(arrays(np.int64, (len(levels), raters), elements=st.integers(MISSING, LEVELS - 1)))
    return judged_as(levels, said)


class TestWantedDistributions:
    @given(rated(), SHARES)
    def test_rows_are_distributions_between_the_level_and_the_votes(self, judged: JudgedPairs, share: float):
        assert judged.rater_levels is not None
        wanted = wanted_distributions(judged, LEVELS, share)
        assert wanted.shape == (len(judged), LEVELS)
        np.testing.assert_allclose(wanted.sum(axis=1), 1, atol=1e-12)
        assert (wanted >= 0).all()
        for row, level, said in zip(wanted, judged.levels, judged.rater_levels, strict=True):
            votes = [vote for vote in said if vote != MISSING]
            expected = np.eye(LEVELS)[level]
            if votes:
                expected = (1 - share) * expected + share * np.bincount(votes, minlength=LEVELS) / len(votes)
            np.testing.assert_allclose(row, expected, atol=1e-12)

    @given(rated())
    def test_without_a_share_raters_do_not_matter(self, judged: JudgedPairs):
        np.testing.assert_array_equal(wanted_distributions(judged, LEVELS, 0), np.eye(LEVELS)[judged.levels])

    @given(st.lists(st.integers(0, LEVELS - 1), max_size=12), SHARES)
    def test_without_raters_it_is_the_level(self, levels: list[int], share: float):
        wanted = wanted_distributions(judged_as(levels), LEVELS, share)
        assert wanted.tolist() == np.eye(LEVELS)[levels].tolist() if levels else wanted.shape == (0, LEVELS)

    def test_a_pair_that_no_rater_saw_keeps_its_level(self):
        judged = judged_as([2, 2], np.array([[MISSING, MISSING], [0, MISSING]]))
        assert wanted_distributions(judged, LEVELS, 0.5).tolist() == [[0, 0, 1], [0.5, 0, 0.5]]


class TestClassWeights:
    @given(st.lists(st.integers(0, LEVELS - 1), min_size=1, max_size=30), SHARES)
    def test_their_mean_is_one_and_rarer_levels_never_weigh_less(self, levels: list[int], balance: float):
        weights = class_weights(np.eye(LEVELS)[levels], balance)
        assert weights.mean() == pytest.approx(1)
        counts = np.bincount(levels, minlength=LEVELS)
        by_rarity = [
            weight for _, weight in sorted(zip(-counts[levels], weights, strict=True), key=lambda pair: pair[0])
        ]
        assert (np.diff(by_rarity) >= -1e-9).all()

    @given(st.lists(st.integers(0, LEVELS - 1), min_size=1, max_size=30))
    def test_fully_balanced_is_what_scikit_learn_calls_balanced(self, levels: list[int]):
        weights = class_weights(np.eye(LEVELS)[levels], 1.0)
        np.testing.assert_allclose(weights, compute_sample_weight("balanced", levels))
        sums = np.bincount(levels, weights, minlength=LEVELS)
        np.testing.assert_allclose(sums[sums > 0], sums.max())

    @given(rated(), SHARES, SHARES)
    def test_soft_targets_have_finite_weights_of_mean_one(self, judged: JudgedPairs, share: float, balance: float):
        weights = class_weights(wanted_distributions(judged, LEVELS, share), balance)
        assert (weights > 0).all()
        assert weights.mean() == pytest.approx(1)

    @given(rated(), SHARES)
    def test_no_balance_is_no_weights(self, judged: JudgedPairs, share: float):
        np.testing.assert_allclose(class_weights(wanted_distributions(judged, LEVELS, share), 0.0), 1)


def trainable(max_tokens: int = 64) -> TrainableJudge:
    """An encoding without a model."""
    pairs = PairEncoder(word_piece_tokenizer(512), max_tokens)
    return TrainableJudge(
        cast(Any, None), pairs.encode, cast(Any, None), pairs.format_version, max_tokens, "classifier"
    )


class TestEncoding:
    def test_pairs_are_encoded_as_serving_does_and_stay_beside_their_answers(self):
        judged = with_raters(demo_judged(4))
        found = judged_examples(trainable(), judged, LEVELS, rater_share=0.5, balance=0.5)
        assert found.left_out == 0
        assert [row.token_ids for row in trainable().encode(*judged.texts)] == list(found.examples.token_ids)
        wanted = wanted_distributions(judged, LEVELS, 0.5)
        np.testing.assert_array_equal(found.examples.targets, wanted)
        np.testing.assert_array_equal(found.examples.weights, class_weights(wanted, 0.5))
        assert found.examples[1]["input_ids"] == found.examples.token_ids[1]
        np.testing.assert_array_equal(found.examples[1]["target"], wanted[1])

    def test_queries_that_leave_no_room_are_left_out_and_counted(self):
        judged = demo_judged(4)
        long = "sofa " * 100
        queries = tuple(long if i % 3 == 1 else query for i, query in enumerate(judged.queries))
        judged = JudgedPairs(queries, judged.products, judged.ratings, judged.levels)
        found = judged_examples(trainable(), judged, LEVELS, rater_share=0.5, balance=1.0)
        kept = [i for i in range(len(judged)) if i % 3 != 1]
        assert found.left_out == len(judged) - len(kept)
        assert found.judged.queries == tuple(judged.queries[i] for i in kept)
        assert found.examples.targets.argmax(axis=1).tolist() == judged.levels[kept].tolist()
        assert len(found.examples) == len(found.examples.token_ids) == len(found.judged)
        assert found.examples.weights.mean() == pytest.approx(1)

    def test_weak_pairs_that_leave_no_room_take_their_distributions_with_them(self):
        products = demo_judged(2).products[:3]
        distributions = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
        weak = WeakPairs(("sofa", "sofa " * 100, "lamp"), products, distributions)
        examples = weak_examples(trainable(), weak)
        assert examples.targets.tolist() == distributions[[0, 2]].tolist()
        assert examples.weights.tolist() == [1, 1]
        assert len(examples) == 2

    def test_no_room_for_any_pair_leaves_nothing(self):
        judged = demo_judged(2)
        silent = JudgedPairs(("sofa " * 100,) * len(judged), judged.products, judged.ratings, judged.levels)
        found = judged_examples(trainable(), silent, LEVELS, rater_share=0.5, balance=1.0)
        assert (len(found.examples), found.left_out) == (0, len(judged))
        assert found.examples.targets.shape == (0, LEVELS)

    def test_joined_examples_are_these_so_many_times_and_the_others_once(self):
        these = Examples([[1], [2]], np.eye(3)[[0, 1]], np.array([0.5, 1.5]))
        others = Examples([[3]], np.eye(3)[[2]], np.array([1.0]))
        joined = these.joined(others, times=2)
        assert [joined[i]["input_ids"] for i in range(len(joined))] == [[1], [2], [1], [2], [3]]
        assert joined.targets.argmax(axis=1).tolist() == [0, 1, 0, 1, 2]
        assert joined.weights.tolist() == [0.5, 1.5, 0.5, 1.5, 1.0]
