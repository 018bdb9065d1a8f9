from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics

from labelstream.schemas.scale import LabelScale
from labelstream.streaming.importers import read_chorus_products
from labelstream.training.agreement import (
    agreement,
    calibration,
    calibration_error,
    checked_probabilities,
    cohen_kappa,
    compare_raters,
    confidence_sums,
    decide,
)
from labelstream.training.confusion_counts import MEASURES, class_scores, confusion_counts
from labelstream.training.judgments import load_judged_pairs

Levels = np.ndarray
SAYS: dict[str, Callable[[Levels, Levels, int], float]] = {
    "kappa": lambda true, said, n: metrics.cohen_kappa_score(true, said, labels=range(n)),
    "quadratic_kappa": lambda true, said, n: metrics.cohen_kappa_score(
        true, said, labels=range(n), weights="quadratic"
    ),
    "weighted_f1": lambda true, said, n: metrics.f1_score(
        true, said, labels=range(n), average="weighted", zero_division=0.0
    ),
    "accuracy": lambda true, said, _: metrics.accuracy_score(true, said),
    "optimistic_bias": lambda true, said, _: float(np.mean((said > true)[said != true])),
}


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Levels, Levels, Levels, int]:
    """True and predicted levels, the queries they belong to, and how many levels there are."""
    levels = draw(st.integers(2, 5))
    pair = st.tuples(st.integers(0, levels - 1), st.integers(0, levels - 1), st.integers(0, 4))
    pairs = np.array(draw(st.lists(pair, min_size=1, max_size=60)), np.int64)
    return pairs[:, 0], pairs[:, 1], pairs[:, 2], levels


@given(labelled())
def test_measures_of_counts_are_those_of_scikit_learn(case: tuple[Levels, Levels, Levels, int]):
    true, said, queries, levels = case
    assume(len(set(true.tolist())) > 1)
    assume((true != said).any())
    whole = confusion_counts(true, said, queries, levels).sum(axis=0)
    found = agreement(true, said, levels)
    for name, measure in MEASURES.items():
        expected = SAYS[name](true, said, levels)
        assert float(measure(whole)) == pytest.approx(expected), name
        assert getattr(found, name) == pytest.approx(expected), name


@given(labelled())
def test_scores_of_classes_are_those_of_scikit_learn(case: tuple[Levels, Levels, Levels, int]):
    true, said, queries, levels = case
    expected = metrics.precision_recall_fscore_support(true, said, labels=range(levels), zero_division=0.0)
    counts = confusion_counts(true, said, queries, levels)
    np.testing.assert_allclose(class_scores(counts.sum(axis=0)).T, expected[:3])
    found = agreement(true, said, levels)
    np.testing.assert_allclose(np.array(found.per_class).T, expected)
    assert found.confusion.tolist() == counts.sum(axis=0).tolist()


@given(labelled(), st.integers(0, 2**31))
def test_many_matrices_at_once_are_each_by_itself(case: tuple[Levels, Levels, Levels, int], seed: int):
    counts = confusion_counts(*case)
    weights = np.random.default_rng(seed).integers(0, 3, (4, 2, len(counts)))
    many = np.tensordot(weights, counts, axes=1)
    for measure in (*MEASURES.values(), class_scores):
        each = [[measure(many[i, j]) for j in range(2)] for i in range(4)]
        np.testing.assert_allclose(measure(many), np.array(each))


def test_one_true_class_has_no_kappa_and_no_error_no_bias():
    one = agreement(np.array([1, 1]), np.array([1, 2]), 3)
    assert math.isnan(one.kappa)
    assert math.isnan(one.quadratic_kappa)
    assert one.optimistic_bias == 1.0
    assert one.per_class[0] == (0.0, 0.0, 0.0, 0)
    right = agreement(np.array([0, 1]), np.array([0, 1]), 3)
    assert math.isnan(right.optimistic_bias)
    assert (right.kappa, right.quadratic_kappa, right.weighted_f1) == (1, 1, 1)
    counts = confusion_counts(np.array([1, 1]), np.array([1, 2]), np.array([0, 0]), 3)[0]
    assert np.isnan([MEASURES["kappa"](counts), MEASURES["quadratic_kappa"](counts)]).all()
    assert all(np.isnan(measure(np.zeros((3, 3)))) for measure in MEASURES.values())


def test_a_known_confusion():
    true, said = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 2, 2, 2, 1])
    found = agreement(true, said, 3)
    assert found.confusion.tolist() == [[2, 0, 1], [0, 0, 1], [0, 1, 1]]
    assert found.kappa == pytest.approx((1 / 2 - 13 / 36) / (1 - 13 / 36))
    assert found.optimistic_bias == pytest.approx(2 / 3)
    assert found.per_class[2] == pytest.approx((1 / 3, 1 / 2, 2 / 5, 2))


@pytest.mark.parametrize(
    ("probabilities", "argmax", "expected"),
    [
        ([0.45, 0.1, 0.45], 0, 1),
        ([0.4, 0.2, 0.4], 0, 1),
        ([0.0, 0.5, 0.5], 1, 1),
        ([0.1, 0.3, 0.6], 2, 1),
        ([0.0, 0.4, 0.6], 2, 2),
        ([1.0, 0.0, 0.0], 0, 0),
        ([0.0, 0.0, 1.0], 2, 2),
    ],
)
def test_the_rules_of_decision(probabilities: list[float], argmax: int, expected: int):
    assert decide(np.array([probabilities])).tolist() == [argmax]
    assert decide(np.array([probabilities]), "expected").tolist() == [expected]


@given(st.integers(2, 5), st.integers(0, 2**31))
def test_the_expected_level_is_the_nearest_to_the_mean(levels: int, seed: int):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(levels), 20)
    mean = probabilities @ np.arange(levels)
    distance = np.abs(np.arange(levels) - mean[:, None])
    assert decide(probabilities, "expected").tolist() == distance.argmin(axis=1).tolist()


def test_a_bin_holds_its_upper_border():
    probabilities = np.array([[1.0, 0.0], [0.6, 0.4], [0.4, 0.6], [0.38, 0.62], [0.5, 0.5]])
    found = calibration(np.array([0, 0, 1, 0, 1]), probabilities, bins=5)
    assert [(round(one.low, 9), round(one.high, 9), one.pairs) for one in found.bins] == [
        (0.0, 0.2, 0),
        (0.2, 0.4, 0),
        (0.4, 0.6, 3),
        (0.6, 0.8, 1),
        (0.8, 1.0, 1),
    ]
    assert found.bins[2].confidence == pytest.approx(1.7 / 3)
    assert found.bins[2].accuracy == pytest.approx(2 / 3)
    assert math.isnan(found.bins[0].confidence)
    assert math.isnan(found.bins[0].accuracy)
    assert found.expected_calibration_error == pytest.approx((abs(2 - 1.7) + 0.62 + 0) / 5)


def slow_calibration_error(true: Levels, probabilities: np.ndarray, bins: int) -> float:
    """As Guo et al. 2017 write it, bin by bin."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    borders = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in itertools.pairwise(borders):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@given(st.integers(2, 5), st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**31))
def test_calibration_is_that_of_the_paper_and_of_scikit_learn(levels: int, pairs: int, bins: int, seed: int):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(levels), pairs)
    true = generator.integers(0, levels, pairs)
    queries = generator.integers(0, 3, pairs)
    found = calibration(true, probabilities, bins=bins)
    assert found.expected_calibration_error == pytest.approx(slow_calibration_error(true, probabilities, bins))
    by_query = confidence_sums(true, probabilities, queries, bins=bins)
    assert calibration_error(by_query.sum(axis=0)) == pytest.approx(found.expected_calibration_error)
    assert found.negative_log_likelihood == pytest.approx(-np.log(probabilities[np.arange(pairs), true]).mean())
    assert found.brier == pytest.approx(np.square(probabilities - np.eye(levels)[true]).sum(axis=1).mean() / 2)
    assert sum(one.pairs for one in found.bins) == pairs


def test_a_single_class_and_impossible_levels_are_no_trouble():
    found = calibration(np.array([1, 1]), np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert found.brier == 0.5
    assert found.expected_calibration_error == 0.5
    assert 10 < found.negative_log_likelihood < 40


def test_probabilities_are_checked_and_brought_to_a_sum_of_one():
    rounded = np.array([[0.3331, 0.3333, 0.3333]], np.float32)
    assert checked_probabilities(rounded, 1, 3).sum() == pytest.approx(1, abs=1e-15)
    with pytest.raises(ValueError, match=r"shape \(1, 3\), expected \(2, 3\)"):
        checked_probabilities(rounded, 2, 3)
    for row in ([np.nan] * 3, [0.5, 0.5, 0.5], [1.5, -0.5, 0.0]):
        with pytest.raises(ValueError, match="of 1 pairs are no distribution, first of pair 1"):
            checked_probabilities(np.array([[1.0, 0.0, 0.0], row]), 2, 3)


def test_raters_are_compared_where_both_have_rated():
    raters = np.array([[0, 0, -1], [1, 2, -1], [2, -1, -1], [-1, -1, -1]])
    found = list(compare_raters(raters, np.array([0, 1, 1, 2])))
    assert [(one.reference, one.rater, one.indices.tolist()) for one in found] == [
        ("rater_1", "rater_2", [0, 1]),
        ("adjudicated", "rater_1", [0, 1, 2]),
        ("adjudicated", "rater_2", [0, 1]),
    ]
    assert (found[0].reference_levels.tolist(), found[0].rater_levels.tolist()) == ([0, 1], [0, 2])
    assert found[1].reference_levels.tolist() == [0, 1, 1]


def test_the_real_raters(data_dir: Path):
    folder, scale = data_dir / "chorus", LabelScale()
    products = read_chorus_products(folder / "products.jsonl.gz")
    judged, _ = load_judged_pairs(folder / "judgments.csv", products, scale, raters=folder / "raters.csv")
    assert judged.rater_levels is not None
    among_themselves = list(compare_raters(judged.rater_levels, judged.levels))[:3]
    both = [(one.reference_levels, one.rater_levels) for one in among_themselves]
    assert [cohen_kappa(*levels, 3) for levels in both] == pytest.approx([0.736, 0.662, 0.635], abs=6e-4)
    quadratic = [cohen_kappa(*levels, 3, weights="quadratic") for levels in both]
    assert quadratic == pytest.approx([0.817, 0.776, 0.747], abs=6e-4)
