from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from pydantic import ValidationError
from rankings import NAMES, QUICK, agreement, fractions, some_features, some_rows

from labelstream.schemas.errors import ModelUnusable, SettingsError
from labelstream.schemas.learning_settings import RankerSettings
from labelstream.training.features import FeatureTable
from labelstream.training.ranker import CARD, MODEL, Ranker
from labelstream.training.ranking_matrix import training_matrix
from labelstream.training.ranking_rows import RankingSet, write_ranking_file
from labelstream.training.xgboost_options import MatrixOptions, xgboost_parameters

TRAINING, HELD_OUT = some_rows(seed=1), some_rows(seed=2)
ON_DISK = {"rows_in_memory": 0, "rows_of_batch": 40}


def settings(**changes: Any) -> RankerSettings:
    return QUICK.model_copy(update=changes)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return Ranker.train(TRAINING, HELD_OUT, QUICK, label="made up")


def linear_ndcg(rows: RankingSet, scores: np.ndarray, k: int) -> float:
    """Mean NDCG@k with the label as gain, by its definition."""
    found = []
    for query in np.unique(rows.query_numbers):
        mine = rows.query_numbers == query
        labels = rows.labels[mine].astype(float)
        discounts = [1 / math.log2(place + 2) for place in range(min(k, len(labels)))]
        own, best = labels[np.argsort(-scores[mine], kind="stable")], np.sort(labels)[::-1]
        found.append(own[: len(discounts)] @ discounts / (best[: len(discounts)] @ discounts))
    return float(np.mean(found))


# Labels


@pytest.mark.parametrize("pair_method", ["topk", "mean"])
@pytest.mark.parametrize("pairs_per_sample", [None, 1, 8])
def test_fractions_are_learned_and_not_cut_to_whole_numbers(pair_method: Any, pairs_per_sample: int | None):
    """Every label is below 1: cut to whole numbers they would all be 0, and nothing could be learned."""
    assert TRAINING.labels.max() < 1
    chosen = settings(pair_method=pair_method, pairs_per_sample=pairs_per_sample)
    found = Ranker.train(TRAINING, None, chosen).score(HELD_OUT.features)
    assert agreement(HELD_OUT, found) > (0.7 if (pair_method, pairs_per_sample) == ("topk", 1) else 0.8)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("normalise_by_score", [False, True])
def test_fractions_are_learned_with_every_normalisation(normalise: bool, normalise_by_score: bool):
    chosen = settings(normalise=normalise, normalise_by_score=normalise_by_score)
    assert agreement(HELD_OUT, Ranker.train(TRAINING, None, chosen).score(HELD_OUT.features)) > 0.8


@pytest.mark.parametrize(("pair_method", "pairs"), [("topk", 32), ("mean", 1)])
def test_the_pairs_that_are_compared_by_default_are_those_that_the_settings_say(pair_method: Any, pairs: int):
    rows = some_rows(queries=4, products=40)
    scores = [
        Ranker.train(rows, None, settings(pair_method=pair_method, pairs_per_sample=chosen)).score(rows.features)
        for chosen in (None, pairs, 40)
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[1] != scores[2]).any()
    assert str(pairs) in str(RankerSettings.model_fields["pairs_per_sample"].description)


def test_every_setting_of_the_loss_makes_another_model():
    """So none of them is ignored, or undone by a default."""
    changes = [
        {}, {"pair_method": "mean"}, {"pairs_per_sample": 3}, {"pair_method": "mean", "pairs_per_sample": 3},
        {"normalise": False}, {"normalise_by_score": False}, {"normalise": False, "normalise_by_score": False},
    ]  # fmt: skip
    models = [Ranker.train(TRAINING, None, settings(**change)).card.model_sha256 for change in changes]
    assert len(set(models)) == len(models)


def test_the_size_of_the_gain_is_that_of_the_label():
    """Twice as much between two labels counts: whole numbers 0 and 1 alone would give one model for both."""
    best, good = TRAINING.labels > 0.8, TRAINING.labels > 0.5
    graded = (np.where(best, 1, np.where(good, worth, 0)).astype(np.float32) for worth in (1.0, 0.9, 0.1))
    models = {
        Ranker.train(RankingSet(TRAINING.features, TRAINING.query_numbers, labels), None, QUICK).card.model_sha256
        for labels in graded
    }
    assert len(models) == 3


def test_the_exponential_gain_refuses_fractions_so_we_use_the_linear_one():
    """What XGBoost does by default; if this ever passes in silence, look again at what it makes of the labels."""
    matrix = xgboost.DMatrix(TRAINING.features.values, label=TRAINING.labels, qid=TRAINING.query_numbers)
    exponential = xgboost_parameters(QUICK) | {"ndcg_exp_gain": True}
    with pytest.raises(xgboost.core.XGBoostError, match="label must be either 0 or positive integer"):
        xgboost.train(exponential, matrix, 1)
    loss = json.loads(xgboost.train(xgboost_parameters(QUICK), matrix, 1).save_config())["learner"]["objective"]
    assert loss["lambdarank_param"]["ndcg_exp_gain"] == "0"


def test_xgboost_takes_negative_labels_in_silence_and_we_do_not():
    labels = TRAINING.labels - np.float32(0.5)
    matrix = xgboost.DMatrix(TRAINING.features.values, label=labels, qid=TRAINING.query_numbers)
    assert xgboost.train(xgboost_parameters(QUICK), matrix, 1).num_boosted_rounds() == 1
    with pytest.raises(SettingsError, match="is not in"):
        RankingSet(TRAINING.features, TRAINING.query_numbers, labels)


@pytest.mark.parametrize("cutoff", [3, 10])
def test_the_metric_of_early_stopping_is_ndcg_with_linear_gain(cutoff: int):
    found = Ranker.train(TRAINING, HELD_OUT, settings(ndcg_cutoff=cutoff, max_depth=8, min_child_weight=0))
    expected = linear_ndcg(HELD_OUT, found.score(HELD_OUT.features), cutoff)
    assert found.card.validation_ndcg == pytest.approx(
        expected, abs=2e-3
    )  # ties are few, but they are broken otherwise


def test_queries_are_compared_within_and_never_with_each_other():
    """A label that only tells queries apart teaches nothing about products."""
    rows = some_rows()
    by_query = np.linspace(0, 0.5, 20)[rows.query_numbers]
    moved = RankingSet(rows.features, rows.query_numbers, (rows.labels / 2 + by_query).astype(np.float32))
    level = RankingSet(rows.features, rows.query_numbers, rows.labels / 2)
    scores = [Ranker.train(one, None, QUICK).score(HELD_OUT.features) for one in (moved, level)]
    assert all(agreement(HELD_OUT, one) > 0.8 for one in scores)


# Training


def test_the_same_rows_and_settings_give_the_same_bytes(ranker: Ranker, tmp_path: Path):
    again = Ranker.train(TRAINING, HELD_OUT, QUICK, label="made up")
    for name, one in (("one", ranker), ("two", again)):
        one.save(tmp_path / name)
    for file in (MODEL, CARD):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_seed_decides_what_is_sampled():
    models = [
        Ranker.train(TRAINING, None, settings(row_share=0.5, feature_share=0.5, seed=seed)).card.model_sha256
        for seed in (1, 1, 2)
    ]
    assert models[0] == models[1] != models[2]


def test_training_stops_early_and_keeps_the_best_trees():
    chosen = settings(rounds=500, patience=5)
    ranker = Ranker.train(TRAINING, HELD_OUT, chosen)
    assert ranker.card.rounds == ranker.booster.num_boosted_rounds() < 400
    every = [
        Ranker.train(TRAINING, HELD_OUT, settings(rounds=rounds, patience=500)).card.validation_ndcg
        for rounds in (ranker.card.rounds, ranker.card.rounds + chosen.patience)
    ]
    assert every == [ranker.card.validation_ndcg] * 2


def test_without_held_out_queries_all_rounds_are_trained():
    ranker = Ranker.train(TRAINING, None, QUICK)
    assert (ranker.card.rounds, ranker.card.validation_ndcg) == (QUICK.rounds, None)


def test_missing_values_are_told_apart_from_numbers(ranker: Ranker):
    values = np.zeros((2, len(NAMES)), np.float32)
    values[1, 2] = np.nan
    with_hole = Ranker.train(TRAINING, None, QUICK).score(FeatureTable(NAMES, values))
    assert np.isfinite(with_hole).all()
    assert np.isfinite(ranker.score(HELD_OUT.features)).all()


@pytest.mark.parametrize("what", ["training", "validation"])
def test_labels_without_an_order_are_refused(what: str):
    level = RankingSet(TRAINING.features, TRAINING.query_numbers, np.floor(TRAINING.labels))
    rows = (level, HELD_OUT) if what == "training" else (TRAINING, level)
    with pytest.raises(SettingsError, match=f"{what}: no query has two products with different labels"):
        Ranker.train(*rows, QUICK)


def test_held_out_rows_with_other_features_are_refused():
    features = FeatureTable(NAMES[:2], HELD_OUT.features.values[:, :2])
    other = RankingSet(features, HELD_OUT.query_numbers, HELD_OUT.labels)
    with pytest.raises(SettingsError, match="validation has the features"):
        Ranker.train(TRAINING, other, QUICK)


@pytest.mark.parametrize(
    "wrong", [{"rounds": 0}, {"learning_rate": 0}, {"pair_method": "all"}, {"gain": "exponential"}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        RankerSettings(**wrong)


# External memory


def test_beyond_a_row_count_the_matrix_lies_on_disk_and_has_the_same_queries(tmp_path: Path):
    in_memory = training_matrix(TRAINING, MatrixOptions(256, 1, len(TRAINING), 40), tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    on_disk = training_matrix(TRAINING, MatrixOptions(256, 1, len(TRAINING) - 1, 40), tmp_path / "pages")
    assert isinstance(in_memory, xgboost.QuantileDMatrix)
    assert isinstance(on_disk, xgboost.ExtMemQuantileDMatrix)
    assert list(tmp_path.iterdir())
    np.testing.assert_array_equal(on_disk.get_group(), in_memory.get_group())
    assert on_disk.get_group().tolist() == [15] * 20


def test_training_by_way_of_the_disk_gives_nearly_the_same_ranking(ranker: Ranker):
    on_disk = Ranker.train(TRAINING, HELD_OUT, settings(**ON_DISK))
    left, right = (one.score(HELD_OUT.features) for one in (ranker, on_disk))
    assert np.corrcoef(left, right)[0, 1] > 0.99
    assert on_disk.card.validation_ndcg == pytest.approx(ranker.card.validation_ndcg, abs=0.01)


@pytest.mark.parametrize("where", [{}, ON_DISK])
def test_a_file_is_as_good_as_memory(tmp_path: Path, where: dict[str, int]):
    files = [
        write_ranking_file(tmp_path / name, [rows], rows_per_group=100)
        for name, rows in (("training", TRAINING), ("validation", HELD_OUT))
    ]
    from_files, from_memory = (
        Ranker.train(*files, settings(**where)),
        Ranker.train(TRAINING, HELD_OUT, settings(**where)),
    )
    assert from_files.card == from_memory.card


# Scores, importance, files


def test_scores_ignore_the_company_of_a_row(ranker: Ranker):
    together = ranker.score(HELD_OUT.features)
    alone = [ranker.score(HELD_OUT.features.select(np.array([row])))[0] for row in range(5)]
    assert together[:5].tolist() == alone


def test_features_that_are_missing_or_unknown_or_in_another_order_are_refused(ranker: Ranker):
    values = some_features(3).values
    for columns, names, what in (
        ([0, 1], NAMES[:2], "missing: holes, noise"),
        ([0, 1, 2, 3], (*NAMES[:3], "price"), "missing: noise; unknown: price"),
        ([1, 0, 2, 3], (NAMES[1], NAMES[0], *NAMES[2:]), "another order"),
    ):
        given = FeatureTable(names, values[:, columns])
        for ask in (ranker.score, ranker.importance):
            with pytest.raises(SettingsError, match=f"not those of the ranker \\({what}\\); give telling, helpful"):
                ask(given)


def test_importance_names_every_feature_the_telling_one_first(ranker: Ranker):
    found = ranker.importance(HELD_OUT.features)
    assert found[0].name == "telling"
    assert {one.name for one in found} == set(NAMES)
    assert [one.mean_absolute_shap for one in found] == sorted((one.mean_absolute_shap for one in found), reverse=True)
    gains = {one.name: one.total_gain for one in found}
    assert gains["telling"] > 10 * gains["noise"]


def test_a_feature_that_no_tree_uses_has_no_importance():
    values = TRAINING.features.values.copy()
    values[:, 3] = 0
    rows = RankingSet(FeatureTable(NAMES, values), TRAINING.query_numbers, TRAINING.labels)
    last = Ranker.train(rows, None, QUICK).importance(rows.features)[-1]
    assert last == ("noise", 0.0, 0.0)


def test_a_saved_ranker_is_the_same_ranker(ranker: Ranker, tmp_path: Path):
    ranker.save(tmp_path / "new" / "folder")
    loaded = Ranker.load(tmp_path / "new" / "folder")
    assert loaded.card == ranker.card
    assert loaded.card.label == "made up"
    assert loaded.card.features == NAMES
    np.testing.assert_array_equal(loaded.score(HELD_OUT.features), ranker.score(HELD_OUT.features))
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted([MODEL, CARD])


def test_a_ranker_may_be_saved_over_another(ranker: Ranker, tmp_path: Path):
    Ranker.train(HELD_OUT, None, QUICK).save(tmp_path)
    ranker.save(tmp_path)
    assert Ranker.load(tmp_path).card == ranker.card


def test_a_setting_that_we_no_longer_have_keeps_no_ranker_from_ranking(ranker: Ranker, tmp_path: Path):
    ranker.save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    card["settings"]["unbiased"] = False
    (tmp_path / CARD).write_text(json.dumps(card))
    np.testing.assert_array_equal(Ranker.load(tmp_path).score(HELD_OUT.features), ranker.score(HELD_OUT.features))


def test_position_bias_is_left_to_the_labels():
    assert "lambdarank_unbiased" not in xgboost_parameters(RankerSettings())
    with pytest.raises(ValidationError):
        RankerSettings.model_validate({"unbiased": True})


def test_a_half_written_or_damaged_ranker_is_never_loaded(ranker: Ranker, tmp_path: Path):
    with pytest.raises(ModelUnusable, match="no ranker that can be read"):
        Ranker.load(tmp_path)
    Ranker.train(HELD_OUT, None, QUICK).save(tmp_path)
    old_card = (tmp_path / CARD).read_bytes()
    ranker.save(tmp_path)
    (tmp_path / CARD).write_bytes(old_card)  # killed between the two files
    with pytest.raises(ModelUnusable, match=f"{MODEL}: not the trees that {CARD} tells of"):
        Ranker.load(tmp_path)
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(ModelUnusable, match="no ranker that can be read"):
        Ranker.load(tmp_path)


def test_labels_of_the_tests_are_what_they_say():
    features = some_features(300)
    least, most = fractions(features).min(), fractions(features).max()
    assert 0 < least < 0.1
    assert 0.9 < most < 1
