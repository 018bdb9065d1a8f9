from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from labelstream.schemas.learning_settings import GateSettings
from labelstream.schemas.scale import Floats
from labelstream.training.gate import CONTENT, ENGAGEMENT, Evidence, Verdict, judge

SETTINGS = GateSettings()
LABELS = np.array([300.0, 300.0, 400.0])


def scores(content: Floats, engagement: Floats | None = None) -> dict[str, Floats]:
    return {CONTENT: content, ENGAGEMENT: np.full(200, 0.4) if engagement is None else engagement}


def uneven(mean: float, queries: int = 200, seed: int = 0) -> Floats:
    """Values of queries that differ much from each other, with exactly this mean."""
    values = np.random.default_rng(seed).normal(0, 0.1, queries)
    return np.asarray(values - values.mean() + mean)


def evidence(**fields: Any) -> Evidence:
    same = scores(uneven(0.8))
    good: dict[str, Any] = {
        "challenger": same, "champion": same, "labelled_pairs": 1000, "labels": LABELS, "calibration": LABELS,
    }  # fmt: skip
    return Evidence(**{**good, **fields})


def failed(verdict: Verdict) -> list[str]:
    assert verdict.passed == all(check.passed for check in verdict.checks)
    return [check.name for check in verdict.checks if not check.passed]


def test_an_equal_challenger_passes():
    verdict = judge(evidence(), SETTINGS)
    assert failed(verdict) == []
    assert len(verdict.checks) == 8


def test_a_loss_on_every_query_beyond_the_margin_fails():
    for loss, names in ((0.009, []), (0.011, [f"{CONTENT} is no worse"])):
        verdict = judge(evidence(challenger=scores(uneven(0.8) - loss)), SETTINGS)
        assert failed(verdict) == names


def test_a_gain_in_content_does_not_pay_for_a_loss_of_engagement():
    challenger = scores(uneven(0.9), np.full(200, 0.35))
    assert failed(judge(evidence(challenger=challenger), SETTINGS)) == [f"{ENGAGEMENT} is no worse"]


def test_few_queries_make_the_gate_stricter():
    """The same mean and the same scatter: what 2000 queries show, 40 do not."""
    for queries, names in ((2000, []), (40, [f"{CONTENT} is no worse"])):
        champion = scores(np.full(queries, 0.8), np.full(queries, 0.4))
        challenger = scores(uneven(0.8, queries), np.full(queries, 0.4))
        assert failed(judge(evidence(champion=champion, challenger=challenger), SETTINGS)) == names


def test_the_comparison_is_paired():
    """Queries differ by far more than the systems do; that must not count."""
    champion = np.random.default_rng(1).uniform(0.2, 1.0, 100)
    systems = {"champion": scores(champion, champion), "challenger": scores(champion + 0.001, champion)}
    assert failed(judge(evidence(**systems), SETTINGS)) == []


def test_the_lower_bound_is_that_of_a_normal_mean():
    """By Student's formula for the same differences: −1.645 standard errors, one-sided at 95 %."""
    difference = uneven(0.02, 500)
    champion = np.full(500, 0.8)
    verdict = judge(evidence(champion=scores(champion), challenger=scores(champion + difference)), SETTINGS)
    [check] = [check for check in verdict.checks if check.name == f"{CONTENT} is no worse"]
    assert check.observed == pytest.approx(0.02 - 1.645 * difference.std(ddof=1) / np.sqrt(500), abs=0.0008)
    assert check.limit == -0.01


@hypothesis_settings(max_examples=50)
@given(st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=30), st.floats(0, 0.2), st.floats(0, 0.1), st.floats(0, 0.1))
def test_a_better_challenger_or_a_wider_margin_never_does_worse(
    differences: list[float], margin: float, gain: float, width: float
):
    champion = np.full(len(differences), 0.5)
    settings = GateSettings(content_margin=margin, minimum_queries=2, resamples=200, content_minimum=0)
    wider = settings.model_copy(update={"content_margin": margin + width})

    def passes(challenger: Floats, with_settings: GateSettings) -> bool:
        systems = {"champion": scores(champion), "challenger": scores(challenger)}
        return judge(evidence(**systems), with_settings).passed

    first = passes(champion + np.array(differences), settings)
    assert first <= passes(champion + np.array(differences) + gain + 1e-9, settings)
    assert first <= passes(champion + np.array(differences), wider)


def test_how_often_a_challenger_that_is_just_too_bad_passes():
    """The error that the confidence bounds: at the border of the margin, about 5 % get through."""
    settings = GateSettings(resamples=400)
    passed = 0
    for seed in range(200):
        draws = np.random.default_rng(seed).normal(-settings.content_margin, 0.05, 100)
        champion = np.full(100, 0.8)
        engagement = np.full(100, 0.4)
        systems = {"champion": scores(champion, engagement), "challenger": scores(champion + draws, engagement)}
        passed += judge(evidence(**systems), settings).passed
    assert 2 <= passed <= 22


def test_the_same_evidence_gives_the_same_verdict():
    evidence_ = evidence(challenger=scores(uneven(0.8, seed=5)))
    assert judge(evidence_, SETTINGS) == judge(evidence_, SETTINGS)


@pytest.mark.parametrize(
    ("content", "names"), [(0.51, []), (0.49, [f"{CONTENT} is high enough"])], ids=["good enough", "too bad"]
)
def test_the_first_champion_must_reach_the_minimum(content: float, names: list[str]):
    verdict = judge(evidence(champion=None, challenger=scores(uneven(content))), SETTINGS)
    assert failed(verdict) == names
    assert not any("no worse" in check.name for check in verdict.checks)


def test_small_steps_down_end_at_the_minimum():
    champion = scores(np.full(200, 0.505))
    verdict = judge(evidence(champion=champion, challenger=scores(np.full(200, 0.499))), SETTINGS)
    assert failed(verdict) == [f"{CONTENT} is high enough"]


def test_too_few_pairs_fail():
    assert failed(judge(evidence(labelled_pairs=299), SETTINGS)) == ["enough labelled pairs"]


def test_queries_that_define_no_value_do_not_count():
    engagement = np.full(200, np.nan)
    engagement[:29] = 0.4
    same = scores(uneven(0.8), engagement)
    assert failed(judge(evidence(challenger=same, champion=same), SETTINGS)) == [f"enough queries with {ENGAGEMENT}"]


@pytest.mark.parametrize("defined", [0, 1])
def test_hardly_any_query_is_a_failure_and_no_crash(defined: int):
    values = np.full(5, np.nan)
    values[:defined] = 0.9
    names = failed(judge(evidence(challenger=scores(values), champion=scores(values)), SETTINGS))
    assert {f"enough queries with {CONTENT}", f"{CONTENT} is no worse"} <= set(names)
    assert (f"{CONTENT} is high enough" in names) == (defined == 0)


def test_no_queries_at_all_are_a_failure_and_no_crash():
    nothing = scores(np.empty(0), np.empty(0))
    assert not judge(evidence(challenger=nothing, champion=nothing), SETTINGS).passed


@pytest.mark.parametrize(("moved", "names"), [([310.0, 290.0, 400.0], []), ([50.0, 50.0, 900.0], ["label drift"])])
def test_drifted_labels_fail(moved: list[float], names: list[str]):
    assert failed(judge(evidence(labels=np.array(moved)), SETTINGS)) == names


def test_without_a_calibration_set_drift_is_said_not_to_be_checked():
    verdict = judge(evidence(calibration=None), SETTINGS)
    assert "label drift: not checked" in verdict.summary


def test_the_summary_of_a_failure_names_what_failed_and_by_how_much():
    verdict = judge(evidence(labelled_pairs=12), SETTINGS)
    assert verdict.summary == "enough labelled pairs: 12 of at least 300"
    assert verdict.as_dict()["checks"][0]["observed"] == 12


def without(mapping: dict[str, Floats], metric: str) -> dict[str, Floats]:
    return {name: values for name, values in mapping.items() if name != metric}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"challenger": without(scores(uneven(0.8)), ENGAGEMENT)}, f"challenger has no {ENGAGEMENT}"),
        ({"champion": without(scores(uneven(0.8)), CONTENT)}, f"champion has no {CONTENT}"),
        ({"champion": scores(uneven(0.8, 199))}, "200 queries of the challenger, 199 of the champion"),
        ({"challenger": scores(np.append(uneven(0.8, 199), np.nan))}, "some queries"),
        ({"challenger": scores(np.append(uneven(0.8, 199), np.inf))}, "infinite"),
    ],
)
def test_evidence_that_does_not_fit_together_is_refused(change: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        judge(replace(evidence(), **change), SETTINGS)


@pytest.mark.parametrize(
    "setting",
    [
        {"content_margin": -0.1},
        {"engagement_margin": float("nan")},
        {"confidence": 0.5},
        {"confidence": 1},
        {"minimum_queries": 1},
        {"maximum_drift": 0},
        {"resamples": 10},
        {"margin": 0.1},
    ],
)
def test_a_setting_that_cannot_work_is_refused(setting: dict[str, float]):
    with pytest.raises(ValidationError, match=next(iter(setting))):
        GateSettings.model_validate(setting)


def test_every_setting_is_described():
    assert all(field.description for field in GateSettings.model_fields.values())
