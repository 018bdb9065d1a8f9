"""labelstream split and labelstream pool: several splits of one file, and one measure of them all."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import labelstream
from test_evaluation import SCALE, guesses, judged_pairs

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.training.evaluation import evaluate, predictions_table, write_evaluation
from labelstream.training.judgments import JudgedPairs
from labelstream.training.splits import query_folds

JUDGED = judged_pairs()
RESAMPLES = 100


@pytest.fixture
def judgments(tmp_path: Path) -> Path:
    """What twenty queries are judged by, some of them in two spellings, and what raters said."""
    rows = [(f"{'Red' if n // 20 % 2 else 'red'} sofa, no {n % 20}", f"p{n}", n % 4, "kept") for n in range(100)]
    path = tmp_path / "judgments.csv"
    for name, header in (("judgments", "rating"), ("raters", "agent_1_rating")):
        with path.with_stem(name).open("w", newline="") as file:
            csv.writer(file).writerows([("query", "docid", header, "note"), *rows])
    with path.open("a") as file:
        file.write("too,few\n")
    return path


def rows_of(path: Path) -> list[tuple[str, ...]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:2] == ["query", "docid"]
    return [tuple(row) for row in rows]


def check_parts(folder: Path, judgments: Path) -> set[str]:
    """Nothing is lost, no query is on both sides; gives the queries to measure by."""
    names = ["test-raters.csv", "test.csv", "training-raters.csv", "training.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    training, test = (rows_of(folder / f"{name}.csv") for name in ("training", "test"))
    whole = [row for row in rows_of(judgments) if len(row) == 4]
    assert sorted(training + test) == sorted(whole)
    queries = [{normalise_query(row[0]) for row in part} for part in (training, test)]
    assert not queries[0] & queries[1]
    assert rows_of(folder / "test-raters.csv") == test
    assert rows_of(folder / "training-raters.csv") == training
    return queries[1]


def test_each_split_is_drawn_from_all_queries(judgments: Path, tmp_path: Path):
    command = ["split", "--judgments", judgments, "--raters", judgments.with_stem("raters"), "--share", "0.3"]
    done = labelstream(*command, "--repeats", "3", "--out", tmp_path / "splits")
    assert "left out 1 rows that are not as long as the header" in done.stderr
    tests = [check_parts(tmp_path / "splits" / str(number), judgments) for number in (1, 2, 3)]
    assert [len(test) for test in tests] == [6, 6, 6]
    assert tests[0] != tests[1]
    labelstream(*command, "--out", tmp_path / "again")
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["1"]
    assert check_parts(tmp_path / "again" / "1", judgments) == tests[0], "the same seed"
    with pytest.raises(SettingsError, match=r"--out .*again exists"):
        labelstream(*command, "--out", tmp_path / "again")


def test_folds_measure_each_query_once(judgments: Path, tmp_path: Path):
    labelstream("split", "--judgments", judgments, "--raters", judgments.with_stem("raters"), "--folds", "4",
                "--out", tmp_path / "splits")  # fmt: skip
    tests = [check_parts(tmp_path / "splits" / str(number), judgments) for number in (1, 2, 3, 4)]
    assert len(set.union(*tests)) == sum(map(len, tests)) == 20


def test_a_file_without_rows_is_refused(tmp_path: Path):
    (tmp_path / "judgments.csv").write_text("query,docid,rating\n")
    with pytest.raises(SettingsError, match="no rows"):
        labelstream("split", "--judgments", tmp_path / "judgments.csv", "--out", tmp_path / "splits")


def evaluated(folder: Path, judged: JudgedPairs, seed: int = 2, *, ranker: bool = False) -> Path:
    """A folder of `labelstream evaluate`."""
    said = guesses(judged, seed)
    found: dict[str, Any] = {"scores": said @ SCALE.values} if ranker else {}
    probabilities = None if ranker else said
    table = predictions_table(judged, probabilities, SCALE, **found)
    write_evaluation(folder, evaluate(judged, probabilities, SCALE, resamples=RESAMPLES, **found), table)
    return folder


def pooled(out: Path, *folders: Path) -> dict[str, Any]:
    labelstream("pool", *folders, "--resamples", RESAMPLES, "--out", out)
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def measures(metrics: dict[str, Any]) -> dict[str, float]:
    """Every number of a metric, by its place."""
    found: dict[str, float] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, part in items:
                walk(part, f"{name}.{key}")
        elif isinstance(value, int | float):
            found[name] = value

    for part in ("labels", "ranking", "humans"):
        walk(metrics[part], part)
    return found


def test_folds_pooled_are_one_evaluation_of_all_queries(tmp_path: Path):
    """The predictions of four models, one for each fold, are measured as if one had made them."""
    said = guesses(JUDGED)
    folds = [test for _, test in query_folds(JUDGED.queries, 4, seed=1)]
    for number, test in enumerate(folds):
        part = JUDGED.select(test)
        found = evaluate(part, said[test], SCALE, resamples=RESAMPLES)
        write_evaluation(tmp_path / str(number), found, predictions_table(part, said[test], SCALE))
    order = np.concatenate(folds)
    whole = evaluate(JUDGED.select(order), said[order], SCALE, resamples=RESAMPLES).metrics
    metrics = pooled(tmp_path / "out", *(tmp_path / str(number) for number in range(4)))
    assert metrics["data"] == whole["data"]
    assert measures(metrics) == pytest.approx(measures(whole), abs=1e-6)
    assert [source["pairs"] for source in metrics["pooled"]] == [len(test) for test in folds]
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert table["run"].to_pylist() == np.repeat(np.arange(4), [len(test) for test in folds]).tolist()


@pytest.mark.parametrize("ranker", [False, True])
def test_the_same_queries_asked_twice_are_no_further_queries(tmp_path: Path, *, ranker: bool):
    """Or else a repeat would narrow every interval by its mere repetition."""
    once = json.loads((evaluated(tmp_path / "one", JUDGED, ranker=ranker) / "metrics.json").read_text())
    evaluated(tmp_path / "same", JUDGED, ranker=ranker)
    twice = pooled(tmp_path / "out", tmp_path / "one", tmp_path / "same")
    assert twice["data"]["queries"] == once["data"]["queries"]
    assert twice["data"]["pairs"] == 2 * once["data"]["pairs"]
    for name, value in measures(once).items():
        counts = any(word in name for word in ("confusion", "support", ".pairs")) and name.startswith("labels")
        assert measures(twice)[name] == pytest.approx(2 * value if counts else value, abs=1e-6), name


def test_each_model_ranks_for_itself(tmp_path: Path):
    """A query that two have ranked has the mean of both, and not one ranking of twice the products."""
    ones = [evaluated(tmp_path / str(seed), JUDGED, seed, ranker=True) for seed in (2, 3)]
    each = [json.loads((one / "metrics.json").read_text())["ranking"]["ndcg_linear@10"] for one in ones]
    found = pooled(tmp_path / "out", *ones)["ranking"]["ndcg_linear@10"]
    assert found["value"] == pytest.approx((each[0]["value"] + each[1]["value"]) / 2)
    assert (found["queries"], found["queries_left_out"]) == (each[0]["queries"], 1)
    assert found["low"] < found["value"] < found["high"]


def test_what_does_not_belong_together_is_refused(tmp_path: Path):
    labels = evaluated(tmp_path / "labels", JUDGED)
    others = {
        "named twice": [labels, labels],
        "cannot be pooled": [labels, evaluated(tmp_path / "ranking", JUDGED, ranker=True)],
        "other columns": [labels, evaluated(tmp_path / "no-raters", judged_pairs(raters=0))],
        "name a predictions.parquet that": [labels, tmp_path],
    }
    for match, folders in others.items():
        with pytest.raises(SettingsError, match=match):
            pooled(tmp_path / "out", *folders)
    with pytest.raises(SettingsError, match="--decision best"):
        labelstream("pool", labels, "--decision", "best", "--out", tmp_path / "out")
    with pytest.raises(SettingsError, match="no column add_to_carts; evaluate with --atc"):
        labelstream("pool", labels, "--atc", "10", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
