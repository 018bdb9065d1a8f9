from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn import metrics

from labelstream.schemas.errors import TransientError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats, LabelScale, expected_score
from labelstream.training import durable_files
from labelstream.training.evaluation import Evaluation, evaluate, predictions_table, write_evaluation
from labelstream.training.judgments import JudgedPairs, ratings_to_levels

SCALE = LabelScale()


def judged_pairs(pairs: int = 240, *, seed: int = 1, raters: int = 3) -> JudgedPairs:
    """Pairs of twelve queries, one of them written in two ways; the last has no relevant product."""
    generator = np.random.default_rng(seed)
    queries = [f"{'Query' if number % 24 == 0 else 'query'} {number % 12}" for number in range(pairs)]
    ratings = generator.integers(0, 4, pairs).astype(np.float64)
    ratings[[query == "query 11" for query in queries]] = 0
    levels = ratings_to_levels(ratings, SCALE, 3)
    said = np.where(generator.random((pairs, raters)) < 0.8, levels[:, None], generator.integers(0, 3, (pairs, raters)))
    said[generator.random((pairs, raters)) < 0.1] = -1
    products = tuple(Product(product_id=f"p{number}", title=f'Product "{number}", é') for number in range(pairs))
    return JudgedPairs(tuple(queries), products, ratings, levels, said if raters else None)


def guesses(judged: JudgedPairs, seed: int = 2) -> Floats:
    """Probabilities that know something of the truth, in single precision, some expected scores the same."""
    generator = np.random.default_rng(seed)
    noise = generator.dirichlet(np.ones(3), len(judged)) * 0.7
    mixed = noise + np.eye(3)[judged.levels] * 0.3
    mixed[::5] = [0.2, 0.3, 0.5]
    return mixed.astype(np.float32)


@pytest.fixture(scope="module")
def judged() -> JudgedPairs:
    """Pairs with three raters."""
    return judged_pairs()


@pytest.fixture(scope="module")
def carts(judged: JudgedPairs) -> Floats:
    """Add-to-carts of each pair, none for one of the queries."""
    counts = np.random.default_rng(3).poisson(2.0, len(judged)).astype(np.float64)
    counts[[query == "query 5" for query in judged.queries]] = 0
    return counts


@pytest.fixture(scope="module")
def evaluation(judged: JudgedPairs, carts: Floats) -> Evaluation:
    """Of the guesses."""
    return evaluate(judged, guesses(judged), SCALE, add_to_carts=carts, cutoff=5, seed=7, resamples=200)


@pytest.fixture
def written(tmp_path: Path, judged: JudgedPairs, carts: Floats, evaluation: Evaluation) -> Path:
    """The folder that others get."""
    table = predictions_table(judged, guesses(judged), SCALE, add_to_carts=carts)
    write_evaluation(tmp_path / "new" / "folder", evaluation, table)
    return tmp_path / "new" / "folder"


def columns_of(path: Path) -> dict[str, np.ndarray]:
    """A Parquet file as arrays, missing numbers as NaN."""
    table = pq.read_table(path)
    return {name: table.column(name).to_numpy() for name in table.column_names}


def test_everything_can_be_computed_again_from_the_predictions(written: Path):
    told = json.loads((written / "metrics.json").read_text(encoding="utf-8"))
    rows = columns_of(written / "predictions.parquet")
    true, said = rows["level"], rows["predicted_level"]
    probabilities = np.stack([rows[f"probability_{name}"] for name in SCALE.levels], axis=1)
    names, labels = range(3), told["labels"]
    assert (said == probabilities.argmax(axis=1)).all()
    expected = {
        "kappa": metrics.cohen_kappa_score(true, said, labels=names),
        "quadratic_kappa": metrics.cohen_kappa_score(true, said, labels=names, weights="quadratic"),
        "weighted_f1": metrics.f1_score(true, said, labels=names, average="weighted", zero_division=0.0),
        "accuracy": metrics.accuracy_score(true, said),
        "optimistic_bias": (said > true).sum() / (said != true).sum(),
        "negative_log_likelihood": metrics.log_loss(true, probabilities, labels=names),
        "brier": metrics.brier_score_loss(true, probabilities, labels=names, scale_by_half=True),
    }
    confidence, right = probabilities.max(axis=1), said == true
    bins = np.digitize(confidence, np.linspace(0, 1, 16), right=True)
    gaps = [abs((right[bins == one].sum() - confidence[bins == one].sum()) / len(true)) for one in range(1, 16)]
    expected["expected_calibration_error"] = sum(gaps)
    for name, value in expected.items():
        assert labels[name]["value"] == pytest.approx(value), name
    report = metrics.classification_report(true, said, target_names=SCALE.levels, output_dict=True, zero_division=0.0)
    for name in SCALE.levels:
        ours = labels["per_class"][name]
        assert ours["support"] == report[name]["support"]
        theirs = (report[name]["precision"], report[name]["recall"], report[name]["f1-score"])
        assert tuple(ours[part]["value"] for part in ("precision", "recall", "f1")) == pytest.approx(theirs)
    assert labels["confusion"] == metrics.confusion_matrix(true, said, labels=names).tolist()


def test_every_ranking_can_be_computed_again_from_the_predictions(written: Path):
    told = json.loads((written / "metrics.json").read_text(encoding="utf-8"))["ranking"]
    rows = columns_of(written / "predictions.parquet")
    found: dict[str, list[float]] = {name: [] for name in told}
    for query in dict.fromkeys(rows["normalised_query"]):
        inside = rows["normalised_query"] == query
        ratings, position, carts = (rows[name][inside] for name in ("rating", "position", "add_to_carts"))
        assert sorted(position) == list(range(1, inside.sum() + 1))
        assert (np.diff(rows["score"][inside][np.argsort(position)]) <= 0).all()
        if ratings.any():
            found["ndcg_linear@10"].append(metrics.ndcg_score([ratings], [-position], k=10))
            found["ndcg_exponential@10"].append(metrics.ndcg_score([2**ratings - 1], [-position], k=10))
        if carts.any():
            found["atc@5"].append(carts[position <= 5].sum() / carts.sum())
    for name, values in found.items():
        assert told[name]["value"] == pytest.approx(np.mean(values)), name
        assert (told[name]["queries"], told[name]["queries_left_out"]) == (11, 1)


def test_the_humans_can_be_computed_again_from_the_predictions(written: Path):
    told = json.loads((written / "metrics.json").read_text(encoding="utf-8"))["humans"]
    rows = columns_of(written / "predictions.parquet")
    said = {f"rater_{number}": rows[f"rater_{number}_level"] for number in (1, 2, 3)} | {"adjudicated": rows["level"]}
    assert [(one["reference"], one["rater"]) for one in told] == [
        ("rater_1", "rater_2"),
        ("rater_1", "rater_3"),
        ("rater_2", "rater_3"),
        ("adjudicated", "rater_1"),
        ("adjudicated", "rater_2"),
        ("adjudicated", "rater_3"),
    ]
    for one in told:
        reference, rater = said[one["reference"]], said[one["rater"]]
        both = ~np.isnan(reference) & ~np.isnan(rater)
        assert one["pairs"] == both.sum() < len(reference)
        for name, weights in (("kappa", None), ("quadratic_kappa", "quadratic")):
            expected = metrics.cohen_kappa_score(reference[both], rater[both], weights=weights)
            assert one[name]["value"] == pytest.approx(expected)
            assert one[name]["low"] < expected < one[name]["high"]
        assert np.sum(one["confusion"]) == one["pairs"]


def test_a_rater_ranks_as_a_model_would_that_says_the_same(judged: JudgedPairs, evaluation: Evaluation):
    told = evaluation.metrics["humans_ranking"]
    assert list(told) == ["rater_1", "rater_2", "rater_3"]
    assert judged.rater_levels is not None
    for number, (name, measures) in enumerate(told.items()):
        rated = np.flatnonzero(judged.rater_levels[:, number] >= 0)
        scores = judged.rater_levels[rated, number].astype(np.float64)
        model = evaluate(judged.select(rated), None, SCALE, scores=scores, seed=7, resamples=200)
        assert measures == model.metrics["ranking"], name
        assert 0.5 < measures["ndcg_linear@10"]["value"] < 1


def test_the_csv_says_what_the_parquet_says(written: Path):
    rows = columns_of(written / "predictions.parquet")
    with (written / "predictions.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == list(rows)
    for name, values in rows.items():
        if values.dtype == object:
            assert [row[name] for row in read] == values.tolist()
        else:
            numbers = [float(row[name]) if row[name] else math.nan for row in read]
            np.testing.assert_array_equal(numbers, values)


def test_the_files_name_each_other(written: Path):
    told = json.loads((written / "metrics.json").read_text(encoding="utf-8"))["predictions_sha256"]
    assert sorted(path.name for path in written.iterdir()) == ["metrics.json", *sorted(told)]
    assert told == {name: hashlib.sha256((written / name).read_bytes()).hexdigest() for name in told}


def test_a_write_that_fails_leaves_what_was_there(
    written: Path, judged: JudgedPairs, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
):
    before = {path.name: path.read_bytes() for path in written.iterdir()}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable_files.os, "fsync", full)
    with pytest.raises(TransientError, match="No space left"):
        write_evaluation(written, evaluation, predictions_table(judged, None, SCALE, scores=np.zeros(len(judged))))
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before


def bounded(found: Any) -> list[dict[str, float]]:
    """Every measure with an interval, however deep."""
    if isinstance(found, list):
        return [one for part in found for one in bounded(part)]
    if not isinstance(found, dict):
        return []
    return (
        [found] if {"value", "low", "high"} <= set(found) else [one for part in found.values() for one in bounded(part)]
    )


def test_every_measure_has_an_interval_around_it(evaluation: Evaluation):
    measures = bounded(evaluation.metrics)
    assert len(measures) == 8 + 9 + 3 + 6 * 5 + 3 * 2
    # The calibration error of a resample is biased upward, so its own value may lie a little below.
    assert sum(one["low"] <= one["value"] <= one["high"] for one in measures) >= len(measures) - 1
    assert all(one["low"] < one["high"] for one in measures if one["value"] < 1)


def test_the_same_input_gives_the_same_metrics(judged: JudgedPairs, carts: Floats, evaluation: Evaluation):
    again = evaluate(judged, guesses(judged), SCALE, add_to_carts=carts, cutoff=5, seed=7, resamples=200)
    assert again.metrics == evaluation.metrics
    other = evaluate(judged, guesses(judged), SCALE, add_to_carts=carts, cutoff=5, seed=8, resamples=200)
    assert other.metrics != evaluation.metrics
    assert other.metrics["labels"]["confusion"] == evaluation.metrics["labels"]["confusion"]


def test_of_queries_with_no_more_products_than_the_cutoff_atc_says_nothing(judged: JudgedPairs, carts: Floats):
    kept = judged.select(np.arange(200))  # sixteen or seventeen products a query
    found = evaluate(kept, guesses(kept), SCALE, add_to_carts=carts[:200], cutoff=16, resamples=100)
    sizes = np.bincount(kept.query_numbers)
    assert {*sizes} == {16, 17}
    assert (np.isnan(found.per_query["atc@16"]) >= (sizes == 16)).all()
    assert found.metrics["ranking"]["atc@16"]["queries"] <= (sizes == 17).sum()


def test_the_table_holds_the_pairs_in_their_order(judged: JudgedPairs):
    table = predictions_table(judged, guesses(judged), SCALE)
    assert table.column_names == [
        "query",
        "normalised_query",
        "product_id",
        "rating",
        "level",
        "predicted_level",
        "probability_irrelevant",
        "probability_moderate",
        "probability_high",
        "expected_score",
        "score",
        "position",
        "rater_1_level",
        "rater_2_level",
        "rater_3_level",
    ]
    assert table.column("query").to_pylist() == list(judged.queries)
    assert table.column("normalised_query").to_pylist() == [normalise_query(query) for query in judged.queries]
    assert table.column("score") == table.column("expected_score")
    assert table.column("score").to_numpy() == pytest.approx(expected_score(guesses(judged), SCALE), abs=1e-6)
    assert table.column("rater_1_level").null_count == (judged.rater_levels[:, 0] == -1).sum()


def test_a_pure_ranker_is_measured_by_its_ranking_alone(judged: JudgedPairs, tmp_path: Path):
    scores = judged.ratings * 10 - 50
    found = evaluate(judged, None, SCALE, scores=scores, resamples=50)
    assert found.metrics["labels"] is None
    assert set(found.metrics["ranking"]) == {"ndcg_linear@10", "ndcg_exponential@10"}
    assert found.metrics["ranking"]["ndcg_linear@10"]["value"] == 1
    table = predictions_table(judged, None, SCALE, scores=scores)
    assert table.column("predicted_level").null_count == table.column("probability_high").null_count == len(judged)
    write_evaluation(tmp_path, found, table)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["labels"] is None


def test_scores_rank_where_they_are_given(judged: JudgedPairs):
    worst = evaluate(judged, guesses(judged), SCALE, scores=-judged.ratings, resamples=10)
    by_label = evaluate(judged, guesses(judged), SCALE, resamples=10)
    ranked = [one.metrics["ranking"]["ndcg_linear@10"]["value"] for one in (worst, by_label)]
    assert ranked[0] < ranked[1] < 1
    assert worst.metrics["labels"] == by_label.metrics["labels"]
    assert [one.metrics["method"]["ranked_by"] for one in (worst, by_label)] == ["score", "expected score"]
    assert np.isnan(worst.per_query["ndcg_linear@10"]).sum() == 1


def test_the_decision_rule_can_be_chosen(judged: JudgedPairs):
    unsure = np.tile([0.4, 0.2, 0.4], (len(judged), 1))
    for rule, level in (("argmax", 0), ("expected", 1)):
        found = evaluate(judged, unsure, SCALE, rule=rule, resamples=10)
        assert found.metrics["method"]["decision_rule"] == rule
        assert np.array(found.metrics["labels"]["confusion"])[:, level].sum() == len(judged)
        table = predictions_table(judged, unsure, SCALE, rule=rule)
        assert set(table.column("predicted_level").to_pylist()) == {level}


def test_one_class_and_one_query_are_null_where_nothing_can_be_said(tmp_path: Path):
    judged = judged_pairs(5, raters=0)
    one = JudgedPairs(("tv",) * 5, judged.products, np.zeros(5), np.zeros(5, np.int64))
    found = evaluate(one, np.tile([0.8, 0.1, 0.1], (5, 1)), SCALE, resamples=20)
    write_evaluation(tmp_path, found, predictions_table(one, np.tile([0.8, 0.1, 0.1], (5, 1)), SCALE))
    told = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    nothing = {"value": None, "low": None, "high": None}
    for name in ("kappa", "quadratic_kappa", "optimistic_bias"):
        assert told["labels"][name] == nothing
    assert told["labels"]["accuracy"] == {"value": 1, "low": None, "high": None}
    assert told["labels"]["per_class"]["high"] == {
        "precision": {"value": 0, "low": None, "high": None},
        "recall": {"value": 0, "low": None, "high": None},
        "f1": {"value": 0, "low": None, "high": None},
        "support": 0,
    }
    assert told["ranking"]["ndcg_linear@10"] == nothing | {"queries": 0, "queries_left_out": 1}
    assert (told["humans"], told["humans_ranking"]) == ([], {})
    assert told["data"] == {"pairs": 5, "queries": 1, "pairs_by_level": {"irrelevant": 5, "moderate": 0, "high": 0}}


def test_what_cannot_be_measured_is_refused(judged: JudgedPairs):
    with pytest.raises(ValueError, match="give probabilities, or scores, or both"):
        evaluate(judged, None, SCALE)
    with pytest.raises(ValueError, match="give probabilities, or scores, or both"):
        predictions_table(judged, None, SCALE)
    with pytest.raises(ValueError, match="no pairs"):
        evaluate(judged.select(np.array([], np.int64)), None, SCALE, scores=np.zeros(0))
    unjudged = guesses(judged)
    unjudged[3] = np.nan
    with pytest.raises(ValueError, match="first of pair 3"):
        evaluate(judged, unjudged, SCALE)
    with pytest.raises(ValueError, match=r"expected \(240, 2\): pairs, levels"):
        predictions_table(judged, guesses(judged), LabelScale(levels=("bad", "good")))
