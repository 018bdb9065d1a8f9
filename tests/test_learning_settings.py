from __future__ import annotations

from pathlib import Path

import pytest

from labelstream.commands.options import with_options
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.ranking_label import RANKING_LABELS, RankingLabel
from labelstream.schemas.settings import Settings


@pytest.mark.parametrize(
    ("variable", "value", "section", "name", "expected"),
    [
        ("REGISTRY_FOLDER", "/data/registry", "registry", "folder", Path("/data/registry")),
        ("RETRAIN_WINDOW_DAYS", "14", "retrain", "window_days", 14),
        ("RETRAIN_LABEL", "content_strict", "retrain", "label", "content_strict"),
        ("GATE_MINIMUM_QUERIES", "100", "gate", "minimum_queries", 100),
        ("ENGAGEMENT_PURCHASE_WEIGHT", "9", "engagement", "purchase_weight", 9.0),
        ("RANKER_PAIRS_PER_SAMPLE", "8", "ranker", "pairs_per_sample", 8),
    ],
)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, section: str, name: str, expected: object
):
    assert getattr(getattr(Settings.load(), section), name) != expected
    monkeypatch.setenv(f"LABELSTREAM_{variable}", value)
    assert getattr(getattr(Settings.load(), section), name) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RETRAIN_LABEL", "best"),
        ("RETRAIN_HELD_OUT", "1"),
        ("GATE_CONTENT_MARGIN", "nan"),
        ("ENGAGEMENT_CLICK_WEIGHT", "inf"),
        ("RANKER_PAIR_METHOD", "all"),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str):
    monkeypatch.setenv(f"LABELSTREAM_{variable}", value)
    with pytest.raises(SettingsError, match=f"LABELSTREAM_{variable}: "):
        Settings.load()


def test_the_label_is_one_of_the_named_ones():
    assert Settings.load().retrain.ranking_label == RankingLabel() == RANKING_LABELS["combined_balanced"]


def test_an_option_wins_over_the_environment_and_one_left_out_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_RETRAIN_WINDOW_DAYS", "14")
    monkeypatch.setenv("LABELSTREAM_RETRAIN_KEEP", "3")
    changed = with_options(Settings.load(), retrain={"window_days": 2, "label": None}, ranker={"seed": 0})
    assert (changed.retrain.window_days, changed.retrain.keep, changed.ranker.seed) == (2, 3, 0)
    with pytest.raises(SettingsError, match=r"^--window-days: "):
        with_options(Settings.load(), retrain={"window_days": 0})
