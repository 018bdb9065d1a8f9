from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rankings import NAMES, QUICK, some_features, some_rows

from labelstream.training.features import FeatureTable
from labelstream.training.ltr_export import (
    LTR_TYPE,
    ltr_definition,
    ltr_model,
    write_ltr_model,
)
from labelstream.training.ranker import Ranker
from labelstream.training.xgboost_options import xgboost_parameters

SPLIT_FIELDS = {"nodeid", "depth", "split", "split_condition", "yes", "no", "missing", "children"}


class Plugin:
    """The plugin's reading and scoring, written from its description: strict fields, float32, strictly below."""

    def __init__(self, definition: str, features: tuple[str, ...]) -> None:
        parsed = json.loads(definition)
        assert set(parsed) == {"objective", "splits"}
        assert parsed["objective"] == "rank:ndcg"
        assert parsed["splits"]
        self._features = features
        self._trees = parsed["splits"]
        for tree in self._trees:
            self._check(tree)

    def _check(self, node: dict[str, Any]) -> None:
        if "leaf" in node:
            assert set(node) == {"nodeid", "leaf"}
            return
        assert set(node) == SPLIT_FIELDS
        assert node["split"] in self._features
        assert [child["nodeid"] for child in node["children"]] == [node["yes"], node["no"]]
        assert node["missing"] in (node["yes"], node["no"])
        for child in node["children"]:
            self._check(child)

    def _leaf(self, node: dict[str, Any], row: np.ndarray) -> np.float32:
        while "leaf" not in node:
            value = row[self._features.index(node["split"])]
            if np.isnan(value):
                chosen = node["missing"]
            else:
                chosen = node["yes"] if np.float32(node["split_condition"]) > value else node["no"]
            node = node["children"][0 if chosen == node["yes"] else 1]
        return np.float32(node["leaf"])

    def score(self, values: np.ndarray) -> np.ndarray:
        scores = np.zeros(len(values), np.float32)
        for number, row in enumerate(values):
            for tree in self._trees:
                scores[number] += self._leaf(tree, row)
        return scores


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return Ranker.train(some_rows(), None, QUICK)


@pytest.fixture(scope="module")
def plugin(ranker: Ranker) -> Plugin:
    return Plugin(ltr_model(ranker, "ranker")["model"]["model"]["definition"], NAMES)


def test_the_plugin_scores_as_xgboost_does(ranker: Ranker, plugin: Plugin):
    features = some_features(300, seed=5)
    np.testing.assert_allclose(plugin.score(features.values), ranker.score(features), atol=1e-5)


def trees_of(ranker: Ranker) -> Any:
    """As XGBoost keeps them."""
    return json.loads(ranker.booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"]


def test_values_on_a_threshold_and_beside_it_go_the_same_way(ranker: Ranker, plugin: Plugin):
    trees = trees_of(ranker)
    thresholds = np.unique(
        [
            c
            for tree in trees
            for c, left in zip(tree["split_conditions"], tree["left_children"], strict=True)
            if left > 0
        ]
    ).astype(np.float32)[:60]
    around = np.concatenate([np.nextafter(thresholds, np.float32(way)) for way in (-np.inf, np.inf)] + [thresholds])
    features = FeatureTable(NAMES, np.repeat(around[:, None], len(NAMES), axis=1))
    np.testing.assert_allclose(plugin.score(features.values), ranker.score(features), atol=1e-5)


@settings(max_examples=60)
@given(arrays(np.float32, (4, len(NAMES)), elements=st.floats(-4, 4, width=32) | st.just(np.float32(np.nan))))
def test_the_plugin_scores_any_row_as_xgboost_does(ranker: Ranker, plugin: Plugin, values: np.ndarray):
    np.testing.assert_allclose(plugin.score(values), ranker.score(FeatureTable(NAMES, values)), atol=1e-5)


def test_thresholds_and_leaves_read_back_to_the_same_float32(ranker: Ranker):
    def numbers(node: dict[str, Any]) -> list[float]:
        if "leaf" in node:
            return [node["leaf"]]
        return [node["split_condition"], *(number for child in node["children"] for number in numbers(child))]

    trees = trees_of(ranker)
    exact = [number for tree in trees for number in np.array(tree["split_conditions"], np.float32).tolist()]
    exported = [number for tree in ltr_definition(ranker)["splits"] for number in numbers(tree)]
    assert sorted(exported) == sorted(exact)
    assert all(number == float(np.float32(number)) for number in exported)


@pytest.mark.parametrize("base_score", [0.5, -3.25])
def test_a_base_score_becomes_a_leaf_of_its_own(base_score: float):
    rows = some_rows()
    matrix = xgboost.DMatrix(rows.features.values, label=rows.labels, qid=rows.query_numbers, feature_names=list(NAMES))
    booster = xgboost.train(xgboost_parameters(QUICK) | {"base_score": base_score}, matrix, 5)
    ranker = Ranker.of(booster, QUICK, NAMES, "")
    definition = ltr_definition(ranker)
    assert definition["splits"][-1] == {"nodeid": 0, "leaf": base_score}
    scores = Plugin(json.dumps(definition), NAMES).score(rows.features.values[:50])
    np.testing.assert_allclose(scores, ranker.score(rows.features)[:50], atol=1e-5)


def test_our_own_models_have_no_base_score(ranker: Ranker):
    assert len(ltr_definition(ranker)["splits"]) == ranker.card.rounds


def test_the_body_of_the_request_is_what_the_plugin_asks_for(ranker: Ranker, tmp_path: Path):
    path = tmp_path / "model.json"
    write_ltr_model(path, ranker, "products v2")
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written == ltr_model(ranker, "products v2")
    assert written["model"]["name"] == "products v2"
    assert written["model"]["model"]["type"] == LTR_TYPE
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]
