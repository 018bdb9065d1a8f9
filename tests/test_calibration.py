from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from labelstream.schemas.scale import label_distribution
from labelstream.training.calibration import HIGHEST, LOWEST, fit_temperature

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-40, 40))
SEEDS = st.integers(0, 2**32 - 1)


def cross_entropy(logits: np.ndarray, targets: np.ndarray, temperature: float) -> float:
    return -float((targets * log_softmax(logits / temperature, axis=1)).sum(axis=1).mean())


@given(st.floats(0.1, 10), SEEDS, st.integers(2, 5))
def test_the_temperature_that_made_the_distributions_is_found_again(temperature: float, seed: int, levels: int):
    logits = np.random.default_rng(seed).normal(scale=2, size=(50, levels))
    wanted = label_distribution(logits, temperature)
    assert fit_temperature(logits, wanted) == pytest.approx(temperature, rel=1e-3)


@settings(max_examples=20)
@given(st.floats(0.3, 3), SEEDS)
def test_the_temperature_that_made_the_levels_is_found_nearly(temperature: float, seed: int):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(10_000, 3))
    chances = label_distribution(logits, temperature)
    levels = (chances.cumsum(axis=1) < rng.random((10_000, 1))).sum(axis=1).clip(max=2)
    assert fit_temperature(logits, levels) == pytest.approx(temperature, rel=0.1)


@given(LOGITS, SEEDS)
def test_it_is_never_worse_than_no_temperature(logits: np.ndarray, seed: int):
    rng = np.random.default_rng(seed)
    for wanted in (np.eye(3)[rng.integers(0, 3, len(logits))], softmax(rng.normal(size=logits.shape), axis=1)):
        found = fit_temperature(logits, wanted)
        assert LOWEST <= found <= HIGHEST
        unscaled = cross_entropy(logits, wanted, 1.0)
        assert cross_entropy(logits, wanted, found) <= unscaled + 1e-6 * (1 + unscaled)


@given(LOGITS, SEEDS)
def test_logits_and_log_probabilities_and_levels_and_rows_that_are_one_are_the_same(logits: np.ndarray, seed: int):
    levels = np.random.default_rng(seed).integers(0, 3, len(logits))
    found = fit_temperature(logits, levels)
    assert fit_temperature(logits, np.eye(3)[levels]) == found
    assert cross_entropy(logits, np.eye(3)[levels], found) == pytest.approx(
        cross_entropy(logits, np.eye(3)[levels], fit_temperature(log_softmax(logits, axis=1), levels)), abs=1e-6
    )


def test_a_judge_that_is_always_right_is_made_sure_and_one_that_is_always_wrong_is_made_unsure():
    logits = np.eye(3) * 2
    assert LOWEST <= fit_temperature(logits, np.array([0, 1, 2])) < 2 * LOWEST
    assert HIGHEST / 2 < fit_temperature(logits, np.array([1, 2, 0])) <= HIGHEST
