from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from labelstream.schemas.scale import Floats, LabelScale, expected_score, label_distribution

SCALES = [LabelScale(levels=("bad", "good", "better", "best", "perfect")[:levels]) for levels in (2, 3, 4, 5)]
log_probabilities = st.integers(2, 5).flatmap(lambda n: arrays(np.float64, (3, n), elements=st.floats(-1e4, 0)))
temperatures = st.floats(0.05, 100)


@given(log_probabilities, temperatures)
def test_a_distribution_sums_to_one(logs: Floats, temperature: float):
    distribution = label_distribution(logs, temperature)
    assert distribution.shape == logs.shape
    assert (distribution >= 0).all()
    np.testing.assert_allclose(distribution.sum(axis=-1), 1.0)


@given(log_probabilities, temperatures)
def test_temperature_keeps_the_order_of_the_levels(logs: Floats, temperature: float):
    order = np.argsort(logs, axis=-1, kind="stable")
    assert (np.diff(np.take_along_axis(label_distribution(logs, temperature), order, axis=-1)) >= 0).all()


@given(log_probabilities)
def test_a_higher_temperature_flattens(logs: Floats):
    assert (label_distribution(logs, 2.0).max(axis=-1) <= label_distribution(logs, 1.0).max(axis=-1) + 1e-12).all()


@given(log_probabilities, st.floats(-100, 100))
def test_only_differences_of_log_probabilities_count(logs: Floats, shift: float):
    np.testing.assert_allclose(label_distribution(logs + shift), label_distribution(logs), atol=1e-9)


def test_an_impossible_level_has_probability_zero():
    assert label_distribution(np.array([-np.inf, 0.0, 0.0])).tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("logs", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_what_is_no_distribution_is_refused(logs: Floats):
    with pytest.raises(ValueError, match="log-probabilities"):
        label_distribution(np.array(logs))


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.inf, np.nan])
def test_a_temperature_that_cannot_be_is_refused(temperature: float):
    with pytest.raises(ValueError, match="temperature"):
        label_distribution(np.zeros(3), temperature)


@given(log_probabilities)
def test_the_expected_score_lies_between_zero_and_one(logs: Floats):
    scores = expected_score(label_distribution(logs), SCALES[logs.shape[-1] - 2])
    assert ((scores >= 0) & (scores <= 1)).all()


@given(log_probabilities, st.data())
def test_moving_mass_upward_never_lowers_the_score(logs: Floats, data: st.DataObject):
    before = label_distribution(logs)[0]
    low, high = sorted(data.draw(st.lists(st.integers(0, len(before) - 1), min_size=2, max_size=2, unique=True)))
    moved = before[low] * data.draw(st.floats(0, 1))
    after = before.copy()
    after[low] -= moved
    after[high] += moved
    scale = SCALES[len(before) - 2]
    assert expected_score(after, scale) >= expected_score(before, scale) - 1e-12


@pytest.mark.parametrize("scale", SCALES)
def test_the_worst_level_is_worth_nothing_and_the_best_all(scale: LabelScale):
    assert expected_score(np.eye(len(scale.levels)), scale).tolist() == pytest.approx(scale.values.tolist())
    assert (scale.values[0], scale.values[-1]) == (0.0, 1.0)
    assert scale.tokens == tuple("01234"[: len(scale.levels)])


@pytest.mark.parametrize(
    "levels", [("one",), tuple("abcdef"), ("good", "good"), ("Bad", "good"), ("bad|", "good"), ("", "good")]
)
def test_a_scale_that_cannot_be_is_refused(levels: tuple[str, ...]):
    with pytest.raises(ValidationError, match="levels"):
        LabelScale(levels=levels)


def test_every_scale_has_its_own_version():
    scales = [
        *SCALES,
        LabelScale(),
        LabelScale(levels=("irrelevant", "moderate_high")),
        LabelScale(levels=("gg", "b_")),
    ]
    assert len({scale.version for scale in scales}) == len(scales)
