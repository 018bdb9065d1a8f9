from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from labelstream.schemas.polarization import PRESETS, Polarization, polarize
from labelstream.schemas.ranking_label import RANKING_LABELS, RankingLabel
from labelstream.schemas.scale import Floats

unit = st.floats(0, 1)
several = arrays(np.float64, 12, elements=unit)
polarizations = st.one_of(
    st.sampled_from([Polarization(preset="none"), *(Polarization(preset=name) for name in PRESETS)]),
    st.builds(lambda a, b: Polarization(preset="custom", alpha=a, beta=b), st.floats(0.1, 1000), unit),
)
combined = st.builds(RankingLabel, polarization=polarizations, engagement_weight=unit)
labels = st.one_of(combined, st.sampled_from(list(RANKING_LABELS.values())))


def test_the_named_labels_are_these():
    names = ["raw", *PRESETS]
    content, both = [f"content_{name}" for name in names], [f"combined_{name}" for name in names]
    assert list(RANKING_LABELS) == ["engagement_only", *content, *both]
    assert set(names) == {"raw", "lenient", "balanced", "strict"}


@given(labels, several, several)
def test_a_label_stays_between_zero_and_one(label: RankingLabel, content: Floats, engagement: Floats):
    result = label.label(content, engagement)
    assert result.shape == content.shape
    assert ((result >= 0) & (result <= 1)).all()


@given(labels, several, unit)
def test_more_content_never_lowers_the_label(label: RankingLabel, content: Floats, engagement: float):
    assert (np.diff(label.label(np.sort(content), np.array(engagement))) >= 0).all()


@given(labels, unit, several)
def test_more_engagement_never_lowers_the_label(label: RankingLabel, content: float, engagement: Floats):
    assert (np.diff(label.label(np.array(content), np.sort(engagement))) >= 0).all()


@given(combined, several, several)
def test_content_is_a_filter_that_no_engagement_lifts(label: RankingLabel, content: Floats, engagement: Floats):
    assert (label.label(content, engagement) <= label.polarization(content)).all()


@given(combined, unit, unit, unit, unit)
def test_engagement_orders_only_within_a_band(
    label: RankingLabel, better: float, worse: float, ignored: float, loved: float
):
    """Below (1 − w) of the other's polarized content, no engagement makes up for it."""
    content = np.array([better, worse])
    polarized = label.polarization(content)
    first, second = label.label(content, np.array([ignored, loved]))
    if polarized[1] < (1 - label.engagement_weight) * polarized[0]:
        assert second < first or second == pytest.approx(first, abs=1e-15)


@given(polarizations, st.floats(0.01, 1), unit, st.integers(0, 99), st.integers(1, 100))
def test_within_a_band_more_engagement_is_more(
    polarization: Polarization, weight: float, content: float, less: int, more: int
):
    label = RankingLabel(polarization=polarization, engagement_weight=weight)
    low, high = label.label(np.array(content), np.array(sorted((less, less + more))) / 200)
    assert high > low or polarization(np.array(content)) < 1e-300


@given(polarizations, several, several, unit)
def test_it_is_the_stated_formula(polarization: Polarization, content: Floats, engagement: Floats, weight: float):
    label = RankingLabel(polarization=polarization, engagement_weight=weight)
    expected = polarization(content) * ((1 - weight) + weight * engagement)
    np.testing.assert_allclose(label.label(content, engagement), expected, rtol=1e-12, atol=1e-15)


@given(several, several)
def test_the_pure_presets_look_at_one_side_only(content: Floats, engagement: Floats):
    assert (RANKING_LABELS["engagement_only"].label(content, engagement) == engagement).all()
    assert (RANKING_LABELS["content_raw"].label(content, engagement) == content).all()
    strict = RANKING_LABELS["content_strict"].label(content, engagement)
    assert (strict == polarize(content, *PRESETS["strict"])).all()


@given(polarizations, several, several)
def test_without_weight_and_with_full_engagement_it_is_content(
    polarization: Polarization, content: Floats, engagement: Floats
):
    unweighted = RankingLabel(polarization=polarization, engagement_weight=0)
    assert (unweighted.label(content, engagement) == polarization(content)).all()
    full = RankingLabel(polarization=polarization)
    assert (full.label(content, np.ones(1)) == polarization(content)).all()


@pytest.mark.parametrize("name", RANKING_LABELS)
def test_the_result_is_the_callers_own(name: str):
    content, engagement = np.full(3, 0.5), np.full(3, 0.5)
    RANKING_LABELS[name].label(content, engagement)[:] = 0
    assert (content == 0.5).all()
    assert (engagement == 0.5).all()


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan, np.inf])
def test_values_off_the_scale_are_refused_by_name(wrong: float):
    with pytest.raises(ValueError, match="content"):
        RankingLabel().label(np.array([wrong]), np.array([0.5]))
    with pytest.raises(ValueError, match="engagement"):
        RankingLabel().label(np.array([0.5]), np.array([wrong]))


@pytest.mark.parametrize(
    "fields",
    [
        {"engagement_weight": -0.1},
        {"engagement_weight": 1.1},
        {"engagement_weight": float("nan")},
        {"preset": "both"},
        {"weight": 0.5},
        {"polarization": {"preset": "custom", "alpha": 3}},
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any]):
    with pytest.raises(ValidationError):
        RankingLabel.model_validate(fields)


@given(labels)
def test_a_label_survives_json(label: RankingLabel):
    assert RankingLabel.model_validate_json(label.model_dump_json()) == label
    assert json.loads(json.dumps(label.description)) == label.description


def test_a_description_holds_what_the_label_uses():
    assert RANKING_LABELS["engagement_only"].description == {"preset": "engagement_only", "formula": "e"}
    raw = RANKING_LABELS["content_raw"].description
    assert (raw["s"], raw["alpha"], "engagement_weight" in raw) == ("x", None, False)
    strict = RANKING_LABELS["combined_strict"].description
    assert (strict["alpha"], strict["beta"]) == PRESETS["strict"]
    assert strict["engagement_weight"] == 0.5
