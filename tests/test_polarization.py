from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from labelstream.schemas.polarization import PRESETS, Polarization, polarize
from labelstream.schemas.scale import Floats

scores = arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1))
alphas = st.floats(1e-3, 1000)
betas = st.floats(0, 1)


@given(scores, alphas, betas)
def test_it_never_leaves_zero_to_one_and_never_decreases(x: Floats, alpha: float, beta: float):
    result = polarize(np.sort(x), alpha, beta)
    assert ((result >= 0) & (result <= 1)).all()
    assert (np.diff(result) >= 0).all()


@given(st.floats(0, 1), alphas, betas)
def test_it_is_symmetric_around_beta(distance: float, alpha: float, beta: float):
    above, below = polarize(np.array([beta + distance, beta - distance]), alpha, beta)
    assert above + below == pytest.approx(1.0)


@given(alphas, betas)
def test_beta_is_worth_one_half(alpha: float, beta: float):
    assert polarize(np.array(beta), alpha, beta) == 0.5


@given(scores, st.floats(0.1, 50), betas)
def test_it_is_the_sigmoid_of_the_source(x: Floats, alpha: float, beta: float):
    np.testing.assert_allclose(polarize(x, alpha, beta), 1 / (1 + np.exp(-alpha * (x - beta))), atol=1e-12)


def test_the_steepest_step_does_not_overflow():
    with np.errstate(all="raise"):
        assert polarize(np.array([0.0, 1.0]), 1000.0, 0.5).tolist() == [0.0, 1.0]


@given(scores)
def test_the_presets_are_ordered(x: Floats):
    strict, balanced, lenient = (Polarization(preset=name)(x) for name in ("strict", "balanced", "lenient"))
    assert (strict <= balanced).all()
    assert (balanced <= lenient).all()


@given(scores)
def test_none_keeps_the_score(x: Floats):
    assert (Polarization(preset="none")(x) == x).all()
    assert Polarization(preset="none").parameters is None


def test_parameters_are_those_of_the_preset_or_the_given_ones():
    assert Polarization().parameters == PRESETS["balanced"]
    assert Polarization(preset="custom", alpha=3, beta=0.2).parameters == (3, 0.2)


@pytest.mark.parametrize(
    "fields",
    [
        {"preset": "custom"},
        {"preset": "custom", "alpha": 1},
        {"preset": "strict", "beta": 0.5},
        {"preset": "custom", "alpha": 0, "beta": 0.5},
        {"preset": "custom", "alpha": 1001, "beta": 0.5},
        {"preset": "custom", "alpha": float("nan"), "beta": 0.5},
        {"preset": "custom", "alpha": 1, "beta": 1.5},
        {"preset": "harsh"},
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict[str, Any]):
    with pytest.raises(ValidationError):
        Polarization(**fields)
