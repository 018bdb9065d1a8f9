from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from labelstream.training import intervals
from labelstream.training.confusion_counts import MEASURES, confusion_counts, kappa
from labelstream.training.intervals import (
    Draws,
    interval,
    mean,
    paired_difference,
    resampled,
    sums_of_values,
)

VALUES = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=2, max_size=30).map(np.array)


def drawn_queries(queries: int, resamples: int, seed: int) -> np.ndarray:
    """How often each query is in each draw."""
    return np.random.default_rng(seed).multinomial(queries, np.full(queries, 1 / queries), size=resamples)


@given(VALUES, st.integers(0, 2**31))
def test_a_resampled_mean_is_the_mean_of_the_drawn_values(values: np.ndarray, seed: int):
    found = resampled(sums_of_values(values), mean, resamples=20, seed=seed)
    for weights, value in zip(drawn_queries(len(values), 20, seed), found, strict=True):
        drawn = np.repeat(values, weights)
        known = drawn[~np.isnan(drawn)]
        assert value == pytest.approx(known.mean() if known.size else math.nan, nan_ok=True)


def pairs_of_queries(queries: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and predicted levels of three, and the query of each pair."""
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(queries), generator.integers(1, 8, queries))
    true = generator.integers(0, 3, len(numbers))
    said = np.where(generator.random(len(numbers)) < 0.6, true, generator.integers(0, 3, len(numbers)))
    return true, said, numbers


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_resampled_kappa_is_that_of_scikit_learn_on_the_drawn_pairs(seed: int):
    true, said, numbers = pairs_of_queries(12, seed)
    found = resampled(confusion_counts(true, said, numbers, 3), kappa, resamples=50, seed=seed)
    for weights, value in zip(drawn_queries(12, 50, seed), found, strict=True):
        pairs = np.repeat(np.arange(len(true)), weights[numbers])
        assert value == pytest.approx(cohen_kappa_score(true[pairs], said[pairs], labels=range(3)))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    counts = confusion_counts(*pairs_of_queries(12, 5), 3)
    whole = resampled(counts, kappa, resamples=30, seed=1)
    monkeypatch.setattr(intervals, "_WEIGHTS_AT_ONCE", 12 * 7)
    np.testing.assert_array_equal(resampled(counts, kappa, resamples=30, seed=1), whole)


def test_the_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    low, high = interval(sums_of_values(values), mean, resamples=4000, seed=1)
    error = values.std() / math.sqrt(400)
    assert float(low) == pytest.approx(values.mean() - 1.96 * error, abs=error / 5)
    assert float(high) == pytest.approx(values.mean() + 1.96 * error, abs=error / 5)
    narrow = interval(sums_of_values(values), mean, resamples=4000, seed=1, confidence=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(2)
    held = 0
    for seed in range(200):
        values = generator.exponential(1.0, 60)
        low, high = interval(sums_of_values(values), mean, resamples=300, seed=seed)
        held += low <= 1.0 <= high
    assert 0.86 <= held / 200 <= 0.99


def test_pairs_of_a_query_stay_together():
    # Two queries, all right or all wrong: with pairs drawn one by one the interval would be narrow.
    true = np.array([0, 1] * 200)
    numbers = np.repeat(np.arange(4), 100)
    said = np.where(numbers < 2, true, 1 - true)
    low, high = interval(confusion_counts(true, said, numbers, 2), MEASURES["accuracy"])
    assert (float(low), float(high)) == (0.0, 1.0)


def test_the_seed_decides():
    sums = sums_of_values(np.arange(20) / 20)
    assert Draws(100, 1).measured(0.5, sums, mean) == Draws(100, 1).measured(0.5, sums, mean)
    assert Draws(100, 1).measured(0.5, sums, mean) != Draws(100, 2).measured(0.5, sums, mean)


def test_what_is_not_defined_is_null_and_warns_of_nothing():
    nothing = np.array([np.nan, np.nan, np.nan])
    assert Draws(50).measured(math.nan, sums_of_values(nothing), mean) == {"value": None, "low": None, "high": None}
    one = Draws(50).measured(0.7, sums_of_values(np.array([0.7])), mean)
    assert one == {"value": 0.7, "low": None, "high": None}
    # Only the last query has a second level: draws without it have no κ.
    counts = confusion_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), np.arange(3), 2)
    low, high = interval(counts, kappa)
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize(("queries", "resamples"), [(0, 10), (3, 0)])
def test_nothing_to_draw_is_refused(queries: int, resamples: int):
    with pytest.raises(ValueError, match=f"cannot draw {resamples} times from {queries} queries"):
        resampled(np.zeros((queries, 2)), mean, resamples=resamples)


def test_equal_systems_differ_by_nothing():
    values = np.random.default_rng(1).random(37) / 3
    found = paired_difference(values, values.copy())
    assert (found.difference, found.low, found.high, found.queries) == (0, 0, 0, 37)


@given(VALUES, VALUES, st.integers(0, 2**31))
def test_a_difference_is_that_of_the_queries_that_both_have(champion: np.ndarray, challenger: np.ndarray, seed: int):
    size = min(len(champion), len(challenger))
    champion, challenger = champion[:size], challenger[:size]
    both = ~np.isnan(champion) & ~np.isnan(challenger)
    if not both.any():
        with pytest.raises(ValueError, match="from 0 queries"):
            paired_difference(champion, challenger)
        return
    found = paired_difference(champion, challenger, resamples=50, seed=seed)
    differences = (challenger - champion)[both]
    assert found.queries == both.sum()
    assert found.difference == pytest.approx(differences.mean())
    if found.queries == 1:
        assert np.isnan([found.low, found.high]).all()
        return
    means = drawn_queries(found.queries, 50, seed) @ differences / found.queries
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist(), abs=1e-9)


def test_other_queries_cannot_be_paired():
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(np.zeros(3), np.zeros(4))
