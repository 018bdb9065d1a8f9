from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labelstream.schemas.drift import MOVED, population_stability_index
from labelstream.schemas.scale import Floats

counts = arrays(np.float64, 3, elements=st.integers(0, 10**9).map(float))


@given(counts, counts)
def test_it_is_never_negative_and_symmetric(one: Floats, other: Floats):
    psi = population_stability_index(one, other)
    assert psi >= 0
    assert psi == pytest.approx(population_stability_index(other, one))


@given(counts)
def test_the_same_counts_have_not_moved(one: Floats):
    assert population_stability_index(one, one) == 0


@given(arrays(np.float64, 3, elements=st.integers(1000, 10**6).map(float)), st.integers(2, 100))
def test_the_same_shares_of_more_labels_have_hardly_moved(one: Floats, factor: int):
    assert population_stability_index(one, one * factor) < 1e-5


def test_an_emptied_level_is_finite_and_seen():
    psi = population_stability_index(np.array([100.0, 100.0, 100.0]), np.array([0.0, 150.0, 150.0]))
    assert MOVED < psi < np.inf


@pytest.mark.parametrize(
    ("reference", "current"), [([1.0, 2.0], [1.0]), ([-1.0, 2.0], [1.0, 1.0]), ([np.nan, 1.0], [1.0, 1.0])]
)
def test_what_is_no_count_is_refused(reference: list[float], current: list[float]):
    with pytest.raises(ValueError, match=r"shape|counts"):
        population_stability_index(np.array(reference), np.array(current))
