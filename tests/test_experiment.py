"""The experiment by command, on the made-up shop: every engagement figure in it is simulated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged import demo_judged
from typer.testing import CliRunner

from labelstream.cli import app
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.ranking_label import RANKING_LABELS
from labelstream.schemas.scale import LabelScale
from labelstream.streaming.importers import read_products
from labelstream.training.demo_judgments import DemoShop, write_demo_shop
from labelstream.training.experiment import ALPHAS, BETAS, Experiment, World, choose, front
from labelstream.training.features import FeatureTable
from labelstream.training.judgments import load_judged_pairs
from labelstream.training.predictions import predictions_table
from labelstream.training.report import read_report_inputs


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DemoShop:
    return write_demo_shop(tmp_path_factory.mktemp("shop"), queries=40, per_query=15, products=300, seed=2)


@pytest.fixture(scope="module")
def predictions(shop: DemoShop) -> Path:
    """What a labeller that is nearly right would have said."""
    scale = LabelScale()
    judged, _ = load_judged_pairs(shop.truth, read_products(shop.catalogue), scale)
    noise = np.random.default_rng(1).dirichlet(np.ones(3), len(judged))
    probabilities = 0.7 * np.eye(3)[judged.levels] + 0.3 * noise
    path = shop.truth.with_name("predictions.parquet")
    pq.write_table(predictions_table(judged, probabilities, scale), path)
    return path


def experiment(shop: DemoShop, predictions: Path, out: Path) -> Any:
    command = ["experiment", "--judgments", str(shop.truth), "--catalogue", str(shop.catalogue), "--layout", "products"]
    command += ["--predictions", str(predictions), "--encoder-predictions", str(predictions), "--out", str(out)]
    return CliRunner().invoke(app, [*command, "--sessions", "3000", "--folds", "2"])


def test_the_files_say_that_they_are_simulated_and_the_report_reads_them(
    shop: DemoShop, predictions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LABELSTREAM_RANKER_ROUNDS", "10")
    done = experiment(shop, predictions, tmp_path)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Ablation (simulated engagement)"), "bars are for standard error"
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert set(found) == {"ablation", "tradeoff", "metrics"}
    assert all(file["simulated"] is True for file in found.values())
    assert len(found["tradeoff"]["points"]) == len(ALPHAS) * len(BETAS)
    assert found["metrics"]["chosen"] == found["tradeoff"]["points"][found["tradeoff"]["chosen"]]
    assert found["metrics"]["data"] == {"pairs": 600, "queries": 40}
    assert found["metrics"]["settings"]["sessions"] == 3000
    rows = {(row["name"], row["features"]): row for row in found["ablation"]["rows"]}
    assert {name for name, _ in rows} == set(RANKING_LABELS)
    baseline = rows["engagement_only", "all"]
    assert baseline["atc_delta"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    content = rows["content_raw", "all"]
    assert content["content_ndcg"]["value"] > baseline["content_ndcg"]["value"]
    inputs = read_report_inputs({}, ablation=tmp_path / "ablation.json", tradeoff=tmp_path / "tradeoff.json")
    assert inputs.tradeoff is not None
    assert inputs.tradeoff.simulated


def test_predictions_of_other_pairs_are_refused(shop: DemoShop, predictions: Path, tmp_path: Path):
    table = pq.read_table(predictions)
    fewer, other = tmp_path / "fewer.parquet", tmp_path / "other.parquet"
    pq.write_table(table.slice(1), fewer)
    pq.write_table(table.drop_columns(["expected_score"]), other)
    assert "1 judged pairs are not in it" in str(experiment(shop, fewer, tmp_path / "out").exception)
    refused = experiment(shop, other, tmp_path / "out").exception
    assert isinstance(refused, SettingsError)
    assert "no column expected_score" in str(refused)


def test_what_holds_no_predictions_of_a_labeller_is_refused(shop: DemoShop, predictions: Path, tmp_path: Path):
    table, ranker = pq.read_table(predictions), tmp_path / "ranker.parquet"
    nothing = pa.nulls(len(table), pa.float64())
    pq.write_table(table.set_column(table.column_names.index("expected_score"), "expected_score", nothing), ranker)
    for path, remedy in (
        (ranker, "name predictions of a labeller"),
        (shop.truth, "name a predictions.parquet"),
        (shop.truth.parent, "name a predictions.parquet"),
    ):
        refused = experiment(shop, path, tmp_path / "out").exception
        assert isinstance(refused, SettingsError)
        assert remedy in str(refused)


def test_queries_whose_products_are_all_in_the_first_places_do_not_count():
    """Whatever a ranker does, such a query has all its adds to cart there: it would only hide what the others lose."""
    judged = demo_judged(queries=8, per_query=6)
    kept = np.array([pair for pair, query in enumerate(judged.query_numbers) if query % 2 or pair % 6 < 3])
    mixed = judged.select(kept)  # of some queries only three products
    carts = np.ones(len(mixed))
    features = FeatureTable(("price",), np.zeros((len(mixed), 1), np.float32))
    world = World(mixed, carts, carts, carts, features)

    def train(*_: Any) -> Any:
        return lambda seen: np.zeros(len(seen.values), np.float32)

    def atc(cutoff: int) -> Any:
        made = Experiment(world, train, folds=2, cutoff=cutoff)
        return made.outcome(RANKING_LABELS["content_raw"], features).atc

    sizes = np.bincount(mixed.query_numbers)
    assert 0 < np.count_nonzero(sizes > 3) < len(sizes)
    np.testing.assert_array_equal(atc(3), np.where(sizes > 3, 3 / sizes, np.nan))
    with pytest.raises(SettingsError, match="no query has more judged products"):
        atc(max(sizes))


def test_the_front_holds_what_no_other_point_beats():
    points = [
        {"content_ndcg": 0.9, "atc": 0.3},
        {"content_ndcg": 0.8, "atc": 0.4},
        {"content_ndcg": 0.8, "atc": 0.35},
        {"content_ndcg": 0.7, "atc": 0.5},
    ]
    assert front(points) == [3, 1, 0]
    assert choose(points, {"atc": 0.4}) == 1
    assert choose(points, {"atc": 0.2}) == 0
    assert choose(points, {"atc": 0.9}) == 3
