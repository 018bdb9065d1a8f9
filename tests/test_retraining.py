from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from judged import demo_judged, write_chorus
from lakes import MOMENT, a_commit, lake_settings, product_rows, training_table
from registries import origin
from typer.testing import CliRunner

from labelstream.cli import app
from labelstream.commands.judgements import Layout, file_digests
from labelstream.commands.retrain import REFUSED
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.learning_settings import EngagementSettings, GateSettings, RankerSettings, RetrainSettings
from labelstream.schemas.product import Product
from labelstream.schemas.ranking_label import RANKING_LABELS
from labelstream.schemas.scale import LabelScale
from labelstream.schemas.settings import Settings
from labelstream.schemas.tables import ENGAGEMENT, LABELS, PRODUCTS
from labelstream.streaming.commit import rows
from labelstream.streaming.lake import Lake
from labelstream.training import ranking_task
from labelstream.training.features import FeatureTable
from labelstream.training.gate import CONTENT, METRICS
from labelstream.training.human_content import HumanJudgements
from labelstream.training.judgments import JudgedPairs
from labelstream.training.ranker import Ranker
from labelstream.training.ranker_fit import fit_ranker
from labelstream.training.ranking_data import TrainingSnapshot
from labelstream.training.ranking_task import carts_in, newest_days, read_task, split_queries
from labelstream.training.registry import Registry
from labelstream.training.retraining import Retrained, retrain
from labelstream.training.simulated_truth import SimulationSettings
from labelstream.training.simulator import Simulation

SCALE = LabelScale()
SIMULATION = SimulationSettings(sessions=4000, days=14)
GATE = GateSettings(
    minimum_queries=5, minimum_pairs=50, content_margin=0.2, engagement_margin=0.2, resamples=200, engagement_cutoff=4
)
HOW = RankerSettings(rounds=30, max_depth=3)
SETTINGS = Settings(retrain=RetrainSettings(held_out=0.3), gate=GATE, ranker=HOW)


def label_rows(judged: JudgedPairs) -> Any:
    """What a labeller that is nearly right would have written."""
    noise = np.random.default_rng(1).normal(0, 0.1, len(judged))
    scores = np.clip(SCALE.values[judged.levels] + noise, 0, 1)
    common = {
        "product_hash": "h", "probabilities": [0.2, 0.3, 0.5], "polarization_alpha": 10.0, "polarization_beta": 0.5,
        "temperature": 1.0, "shortened": False, "cross_encoder_version": "e", "model_version": "judge",
        "prompt_version": "p", "scale_version": SCALE.version, "judged_at": MOMENT,
    }  # fmt: skip
    return rows(
        LABELS,
        [
            common
            | {
                "label_key": f"{pair:032x}",
                "query": normalise_query(query),
                "product_id": product_id,
                "level": SCALE.levels[level],
                "expected_score": float(score),
                "polarized_score": float(score),
                "cross_encoder_score": float(score),
            }
            for pair, (query, product_id, level, score) in enumerate(
                zip(judged.queries, judged.product_ids, judged.levels, scores, strict=True)
            )
        ],
    )


def engagement_rows(judged: JudgedPairs) -> Any:
    """What simulated shoppers did, day by day."""
    simulation, found = Simulation(judged, SCALE, SIMULATION), []
    for day in (SIMULATION.start + timedelta(days=n) for n in range(SIMULATION.days)):
        counts = simulation.counts(since=day, until=day + timedelta(days=1))
        cells = zip(counts.pair, counts.position, counts.impressions, counts.actions, strict=True)
        for pair, position, impressions, (clicks, carts, purchases) in cells:
            found.append(
                {
                    "day": day, "query": counts.queries[pair], "product_id": counts.product_ids[pair],
                    "position": int(position), "impressions": int(impressions), "clicks": int(clicks),
                    "add_to_carts": int(carts), "purchases": int(purchases),
                }
            )  # fmt: skip
    return rows(ENGAGEMENT, found)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A catalogue, labels and simulated engagement of 40 queries."""
    judged, folder = demo_judged(queries=40, per_query=9), tmp_path_factory.mktemp("lake")
    products = {product.product_id: product for product in judged.products}.values()
    tables = {
        PRODUCTS.name: product_rows(*products),
        LABELS.name: label_rows(judged),
        ENGAGEMENT.name: engagement_rows(judged),
    }
    with Lake(lake_settings(folder)) as writing:
        writing.commit(a_commit(0, tables=tables))
    with Lake(lake_settings(folder), read_only=True) as reading:
        yield reading


def run(lake: Lake, folder: Path, settings: Settings = SETTINGS, **options: Any) -> Retrained:
    return retrain(lake, Registry(folder), settings, **options)


def with_seed(seed: int) -> Settings:
    """Settings that make another version."""
    return SETTINGS.model_copy(update={"ranker": HOW.model_copy(update={"seed": seed})})


def test_the_first_ranker_becomes_champion_and_the_same_snapshot_gives_the_same(lake: Lake, tmp_path: Path):
    first = run(lake, tmp_path)
    assert first.verdict.passed, first.verdict.summary
    assert first.promoted
    assert first.champion is not None
    assert first.champion.version == first.version
    again = run(lake, tmp_path)
    assert (again.version, again.promoted) == (first.version, False)
    manifest = Registry(tmp_path).manifest("ranker", str(first.version))
    assert manifest.origin.data.snapshot == lake.snapshot
    assert manifest.origin.parents == ("judge",)
    assert manifest.metrics["passed"] is True
    assert Ranker.load(first.champion.folder).card.features


def test_a_dry_run_changes_nothing(lake: Lake, tmp_path: Path):
    done = run(lake, tmp_path / "registry", dry_run=True)
    assert done.verdict.passed
    assert (done.version, done.champion, done.promoted) == (None, None, False)
    assert not (tmp_path / "registry").exists()


def test_a_worse_challenger_is_kept_but_not_promoted(lake: Lake, tmp_path: Path):
    champion = run(lake, tmp_path).champion
    assert champion is not None
    strict = SETTINGS.model_copy(update={"gate": GATE.model_copy(update={"content_margin": 0.0})})

    def worst_first(features: Any, labels: Any, queries: Any) -> Ranker:
        return fit_ranker(features, 1.0 - labels, queries, HOW)

    done = retrain(lake, Registry(tmp_path), strict, train=worst_first)
    assert not done.verdict.passed
    assert CONTENT in done.verdict.summary
    assert not done.promoted
    now = Registry(tmp_path).champion("ranker")
    assert now is not None
    assert now.version == champion.version
    assert done.version in Registry(tmp_path).names("ranker")


def knows(*names: str) -> Any:
    """Trains a ranker of these features, as if the others came with a later version; a strange name is added."""

    def train(features: FeatureTable, labels: Any, queries: Any) -> Ranker:
        known = [name for name in names if name in features.names]
        ranker = fit_ranker(features.only(known), labels, queries, HOW)
        return Ranker(ranker.booster, ranker.card.model_copy(update={"features": names}))

    return train


def test_a_champion_of_fewer_features_is_compared(lake: Lake, tmp_path: Path):
    """As after an upgrade that adds features: each is asked about those that it knows."""
    first = run(lake, tmp_path, train=knows("bm25_title", "price"))
    assert first.promoted, first.verdict.summary
    for people in (None, humans()):
        done = run(lake, tmp_path, dry_run=True, humans=people)
        assert done.champion == first.champion
        assert done.metrics["champion"][CONTENT] > 0
        assert f"{CONTENT} is no worse" in {check.name for check in done.verdict.checks}


@pytest.mark.parametrize("damaged", ["model.json", "manifest.json", ""])
def test_a_champion_that_cannot_be_measured_stays_until_a_person_decides(
    lake: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: str
):
    """A ranker that was damaged, or that wants a feature which an upgrade has taken away."""
    names = ("bm25_title", "price") if damaged else ("bm25_title", "moon_phase")
    train, registry = knows(*names), Registry(tmp_path)
    with registry.stage("ranker") as folder:
        champion = train(read_task(lake, SCALE, EngagementSettings(), window_days=7).features, *_easy_labels(lake))
        champion.save(folder)
        version = registry.add("ranker", folder, origin=origin(), metrics={})
    entry = registry.promote("ranker", version, expected=None, reason="test")
    if damaged:
        (entry.folder / damaged).write_text("{}")
    done = run(lake, tmp_path)
    assert not done.promoted
    assert done.champion == entry
    [refusal] = [check for check in done.verdict.checks if not check.passed]
    assert refusal.name == "the champion can be measured"
    assert "models promote" in refusal.detail
    assert version in caplog.text
    assert done.version in registry.names("ranker"), "kept, so that it can be promoted by hand"
    assert registry.promote("ranker", str(done.version), expected=version, reason="by hand").version == done.version


def _easy_labels(lake: Lake) -> tuple[Any, Any]:
    task = read_task(lake, SCALE, EngagementSettings(), window_days=7)
    return task.content, task.queries


def test_labels_that_have_drifted_are_refused(lake: Lake, tmp_path: Path):
    champion = run(lake, tmp_path).champion
    registry = Registry(tmp_path)
    assert champion is not None
    path = champion.folder / "manifest.json"
    manifest = registry.manifest("ranker", champion.version)
    drifted = manifest.model_copy(update={"metrics": {**manifest.metrics, "labels": [1000.0, 1.0, 1.0]}})
    path.write_text(drifted.model_dump_json())
    done = run(lake, tmp_path, with_seed(2))
    assert not done.verdict.passed
    assert any(not check.passed and "drift" in check.name for check in done.verdict.checks)


@pytest.mark.parametrize(
    "told",
    [{"levels": ["bad", "fair", "good"]}, {"levels": ["bad", "good"], "labels": [9.0, 9.0]}, {"labels": [9.0, 9.0]}],
    ids=["other names", "fewer levels", "fewer levels, written before their names were"],
)
def test_a_champion_of_another_scale_stays_until_a_person_decides(lake: Lake, tmp_path: Path, told: dict[str, Any]):
    champion, registry = run(lake, tmp_path).champion, Registry(tmp_path)
    assert champion is not None
    manifest = registry.manifest("ranker", champion.version)
    metrics = {**manifest.metrics, **told}
    if "levels" not in told:
        del metrics["levels"]
    changed = manifest.model_copy(update={"metrics": metrics})
    (champion.folder / "manifest.json").write_text(changed.model_dump_json())
    done = run(lake, tmp_path, with_seed(2))
    [refusal] = [check for check in done.verdict.checks if not check.passed]
    assert refusal.name == "label drift"
    assert "models promote" in refusal.detail
    assert done.version in registry.names("ranker"), "kept, so that it can be promoted by hand"
    assert done.champion == champion


def test_a_rollback_is_not_undone_by_the_next_run(lake: Lake, tmp_path: Path):
    first, second = (run(lake, tmp_path, with_seed(seed)) for seed in (1, 2))
    assert second.promoted
    registry = Registry(tmp_path)
    registry.rollback("ranker", "fewer carts")
    again = run(lake, tmp_path, with_seed(2))
    assert (again.version, again.promoted) == (second.version, False)
    assert again.champion is not None
    assert again.champion.version == first.version
    [refusal] = [check for check in again.verdict.checks if not check.passed]
    assert f"models promote {second.version}" in refusal.detail
    registry.promote("ranker", str(second.version), expected=first.version, reason="it was something else")
    assert run(lake, tmp_path, with_seed(2)).verdict.passed
    assert run(lake, tmp_path, with_seed(3)).promoted, "a newer one may be promoted"


def test_versions_that_the_gate_refuses_do_not_pile_up(lake: Lake, tmp_path: Path):
    champion = run(lake, tmp_path).champion
    assert champion is not None
    refused = []
    for seed in range(2, 6):
        settings = with_seed(seed).model_copy(
            update={
                "gate": GATE.model_copy(update={"minimum_pairs": 10**9}),
                "retrain": SETTINGS.retrain.model_copy(update={"keep": 2}),
            }
        )
        done = run(lake, tmp_path, settings)
        assert not done.promoted
        refused.append(done.version)
    assert set(Registry(tmp_path).names("ranker")) == {champion.version, *refused[-2:]}


def test_every_file_of_judgements_is_named(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text(name)
    names = ("label.csv", "product.csv", "query.csv")
    for name in names:
        (tmp_path / name).write_text(name)
    of_one_name = file_digests(tmp_path / "a" / "data.csv", tmp_path / "b" / "data.csv", Layout.CHORUS)
    assert of_one_name == {
        "judgments/data.csv": hashlib.sha256(b"a").hexdigest(),
        "catalogue/data.csv": hashlib.sha256(b"b").hexdigest(),
    }
    folder = file_digests(tmp_path, None, Layout.WANDS)
    assert folder == {f"judgments/{name}": hashlib.sha256(name.encode()).hexdigest() for name in names}


def test_features_end_where_labels_and_measures_begin(lake: Lake):
    task = read_task(lake, SCALE, EngagementSettings(), window_days=7)
    last = SIMULATION.start + timedelta(days=SIMULATION.days - 1)
    assert task.until == last - timedelta(days=6)
    column = task.features.names.index("pair_impressions")
    before = lake.query("SELECT sum(impressions) FROM engagement WHERE day < ?", [task.until])[0][0]
    assert np.expm1(task.features.values[:, column]).sum() == pytest.approx(before, rel=1e-4)
    after = lake.query("SELECT sum(add_to_carts) FROM engagement WHERE day >= ?", [task.until])[0][0]
    assert task.carts.sum() == after
    every = np.arange(len(task))
    assert set(task.measure(every, task.content, cutoff=4)) == set(METRICS)
    _, engagement = (task.measure(every, task.content, cutoff=cutoff)[METRICS[1]] for cutoff in (4, 9))
    assert np.isnan(engagement).all()  # nine products are all in the first nine places


def engagement_on(*days: date) -> Any:
    row = {"query": "red sofa", "product_id": "p", "position": 1, "impressions": 3, "clicks": 2, "purchases": 0}
    return {ENGAGEMENT.name: rows(ENGAGEMENT, [row | {"day": day, "add_to_carts": 1} for day in days])}


def test_an_event_with_a_wrong_clock_does_not_move_the_window(tmp_path: Path):
    today = datetime.now(UTC).date()
    with Lake(lake_settings(tmp_path)) as lake:
        lake.commit(a_commit(0, tables=engagement_on(date(2038, 1, 19))))
        with pytest.raises(SettingsError, match="no engagement of days up to"):
            newest_days(lake, lake.snapshot, 7)
        lake.commit(a_commit(1, tables=engagement_on(date(2001, 9, 9), today, today + timedelta(days=1))))
        window = newest_days(lake, lake.snapshot, 7)
        assert window == (today - timedelta(days=5), today + timedelta(days=2))
        assert carts_in(lake, lake.snapshot, window, ["red sofa"], ["p"]).tolist() == [2]


def test_a_window_without_any_action_teaches_no_engagement(lake: Lake):
    task = read_task(lake, SCALE, EngagementSettings(), window_days=7)
    idle = replace(task, engagement=np.zeros(len(task)))
    for name in ("engagement_only", "combined_balanced"):
        assert task.labels(RANKING_LABELS[name]).any()
        with pytest.raises(SettingsError, match="no click, cart or purchase"):
            idle.labels(RANKING_LABELS[name])
    assert idle.labels(RANKING_LABELS["content_balanced"]).any()


def test_a_task_is_read_a_few_queries_at_a_time(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    """The texts of the products are the bulk of it, and are never all in memory."""
    whole = read_task(lake, SCALE, EngagementSettings(), window_days=7)
    sizes: list[int] = []
    build = ranking_task.build_features

    def counted(queries: Any, *arguments: Any, **options: Any) -> FeatureTable:
        sizes.append(len(queries))
        return build(queries, *arguments, **options)

    table = training_table(TrainingSnapshot(lake, until=whole.until)).combine_chunks()

    def few(_: TrainingSnapshot) -> Any:
        return iter(table.to_batches(max_chunksize=20))

    monkeypatch.setattr(ranking_task, "build_features", counted)
    monkeypatch.setattr(TrainingSnapshot, "batches", few)
    parts = read_task(lake, SCALE, EngagementSettings(), window_days=7)
    assert max(sizes) <= 36 < sum(sizes) == len(whole)
    assert (parts.queries, parts.product_ids, parts.judges) == (whole.queries, whole.product_ids, whole.judges)
    assert parts.features.names == whole.features.names
    for name in ("content", "engagement", "levels", "carts"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    np.testing.assert_array_equal(parts.features.values, whole.features.values)


def test_the_catalogue_is_read_a_product_at_a_time(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    products, seen, most = TrainingSnapshot.products, list[weakref.ref[Product]](), 0

    def watched(snapshot: TrainingSnapshot) -> Iterator[Product]:
        nonlocal most
        for product in products(snapshot):
            seen.append(weakref.ref(product))
            yield product
            most = max(most, sum(reference() is not None for reference in seen))

    monkeypatch.setattr(TrainingSnapshot, "products", watched)
    task = read_task(lake, SCALE, EngagementSettings(), window_days=7)
    assert most <= 2 < len(seen) == len(task.words)


def test_a_query_is_always_on_the_same_side():
    queries = [f"query {n}" for n in range(200)]
    training, held_out = split_queries(queries, 0.25)
    assert sorted([*training, *held_out]) == list(range(200))
    fewer, _ = split_queries(queries[:100], 0.25)
    assert set(fewer) == {pair for pair in training if pair < 100}
    assert 25 <= len(held_out) <= 75
    assert set(held_out) < set(split_queries(queries, 0.5)[1]), "a larger share adds queries"
    with pytest.raises(SettingsError, match="too few"):
        split_queries(["one"], 0.25)


def test_a_label_that_there_is_not_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for command in (["retrain"], ["train", "ranker", "--out", str(tmp_path / "ranker")]):
        refused = CliRunner().invoke(app, [*command, "--label", "best"])
        assert isinstance(refused.exception, SettingsError)
        assert str(refused.exception).startswith("--label: best: choose one of engagement_only")
    monkeypatch.setenv("LABELSTREAM_RETRAIN_LABEL", "best")
    refused = CliRunner().invoke(app, ["retrain"])
    assert "LABELSTREAM_RETRAIN_LABEL: best" in str(refused.exception)


def test_labels_of_another_scale_are_left_out_and_said_so(lake: Lake):
    with pytest.raises(SettingsError, match="no label is of the scale"):
        read_task(lake, LabelScale(levels=("bad", "good")), EngagementSettings(), window_days=7)


def test_a_snapshot_without_engagement_is_refused(tmp_path: Path):
    with Lake(lake_settings(tmp_path)) as empty, pytest.raises(SettingsError, match="no engagement"):
        read_task(empty, SCALE, EngagementSettings(), window_days=7)


KILLED = """
import sys
from pathlib import Path
from labelstream.schemas.settings import LakeSettings
from labelstream.streaming.lake import Lake
import test_retraining as t
with Lake(LakeSettings.model_validate_json(sys.argv[1]), read_only=True) as lake:
    print("begun", flush=True)
    for seed in range(1000):
        t.run(lake, Path(sys.argv[2]), t.with_seed(seed))
        print("round", flush=True)
"""


def test_a_run_that_is_killed_leaves_a_whole_champion(lake: Lake, tmp_path: Path):
    settings = lake._settings.model_dump_json()
    for rounds in (0, 1):
        command = [sys.executable, "-c", KILLED, settings, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            for _ in range(rounds):
                assert child.stdout.readline() == "round\n"
            child.send_signal(signal.SIGKILL)
        champion = Registry(tmp_path).champion("ranker")
        if champion is not None:
            assert Registry(tmp_path).verify("ranker", champion.version) == []
            assert Ranker.load(champion.folder).card.rounds > 0
    done = run(lake, tmp_path)
    assert done.champion is not None
    assert Ranker.load(done.champion.folder).card.rounds > 0


def test_a_ranker_is_trained_by_command_with_an_export(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", lake._settings.catalog)
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", lake._settings.data_path)
    command = ["train", "ranker", "--out", str(tmp_path / "ranker"), "--ltr", str(tmp_path / "ltr.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "cross_encoder_score" in done.output
    assert Ranker.load(tmp_path / "ranker").card.rounds > 0
    assert json.loads((tmp_path / "ltr.json").read_text())
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, SettingsError)


def test_retraining_by_command(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", lake._settings.catalog)
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", lake._settings.data_path)
    monkeypatch.setenv("LABELSTREAM_REGISTRY_FOLDER", str(tmp_path / "registry"))
    monkeypatch.setenv("LABELSTREAM_RANKER_ROUNDS", "20")
    monkeypatch.setenv("LABELSTREAM_REGISTRY_COMMIT", "abc123")
    done = CliRunner().invoke(app, ["retrain"])
    assert done.exit_code == REFUSED  # the default gate wants thirty held-out queries, and there are ten
    assert "queries" in done.output
    assert Registry(tmp_path / "registry").champion("ranker") is None
    [version] = Registry(tmp_path / "registry").names("ranker")
    origin = Registry(tmp_path / "registry").manifest("ranker", version).origin
    assert origin.code.commit == "abc123"
    settings = origin.settings
    assert set(settings) == {"retrain", "gate", "engagement", "ranker"}
    assert settings["ranker"]["rounds"] == 20
    listed = CliRunner().invoke(app, ["models", "list"])
    assert version in listed.output


def humans(queries: int = 8, *, reversed_ratings: bool = False) -> HumanJudgements:
    """What people said of pairs of some queries of the lake, and of others."""
    judged = demo_judged(queries=queries, per_query=9)
    if reversed_ratings:
        judged = replace(judged, ratings=3 - judged.ratings)
    return HumanJudgements(judged, SCALE.values[judged.levels], {"judgments.csv": "0" * 64})


def test_people_may_judge_content(lake: Lake, tmp_path: Path):
    trained: list[str] = []

    def train(features: Any, labels: Any, queries: Any) -> Ranker:
        trained.extend(queries)
        return fit_ranker(features, labels, queries, HOW)

    done = run(lake, tmp_path, humans=humans(), train=train)
    judged = {normalise_query(query) for query in humans().judged.queries}
    assert judged
    assert not judged & set(trained)
    checks = {check.name: check for check in done.verdict.checks}
    assert checks[f"enough queries with {CONTENT}"].observed == len(judged)
    assert done.metrics["content_judged_by"] == "people"
    manifest = Registry(tmp_path).manifest("ranker", str(done.version))
    assert manifest.origin.data.sources == {"judgments.csv": "0" * 64}
    assert manifest.origin.data.rows["judged_pairs"] == len(humans().judged)
    opposed = run(lake, tmp_path / "other", humans=humans(reversed_ratings=True))
    assert done.metrics["challenger"][CONTENT] > opposed.metrics["challenger"][CONTENT] + 0.1
    assert done.metrics["challenger"][METRICS[1]] == opposed.metrics["challenger"][METRICS[1]]


def test_somebody_must_be_left_to_train_on(lake: Lake, tmp_path: Path):
    with pytest.raises(SettingsError, match="every query of the lake"):
        run(lake, tmp_path, humans=humans(queries=40))


def test_people_may_judge_content_by_command(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", lake._settings.catalog)
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", lake._settings.data_path)
    monkeypatch.setenv("LABELSTREAM_RANKER_ROUNDS", "20")
    judgments, catalogue = write_chorus(tmp_path, demo_judged(queries=8, per_query=9))
    command = ["retrain", "--judgments", str(judgments), "--catalogue", str(catalogue), "--dry-run"]
    done = CliRunner().invoke(app, [*command, "--registry", str(tmp_path / "registry")])
    assert done.exit_code == REFUSED  # eight judged queries are few
    assert "content judged by: people" in done.output
    assert "8 of at least 30" in done.output


def test_a_ranker_is_measured_by_command(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    champion = run(lake, tmp_path / "registry").champion
    assert champion is not None
    judgments, catalogue = write_chorus(tmp_path, demo_judged(queries=8, per_query=9, seed=5))
    command = ["evaluate", "--judgments", str(judgments), "--catalogue", str(catalogue), "--out", str(tmp_path / "out")]
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", lake._settings.catalog)
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", lake._settings.data_path)
    done = CliRunner().invoke(app, [*command, "--ranker", str(champion.folder)])
    assert done.exit_code == 0, done.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["labels"] is None
    assert 0 < metrics["ranking"]["ndcg_linear@10"]["value"] <= 1
    neither = CliRunner().invoke(app, command)
    assert isinstance(neither.exception, SettingsError)


def test_a_ranker_without_a_group_of_features_is_measured(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", lake._settings.catalog)
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", lake._settings.data_path)
    monkeypatch.setenv("LABELSTREAM_RANKER_ROUNDS", "20")
    ranker, without = tmp_path / "ranker", ["--without", "lexical", "--without", "cross_encoder"]
    trained = CliRunner().invoke(app, ["train", "ranker", "--out", str(ranker), *without])
    assert trained.exit_code == 0, trained.output
    judgments, catalogue = write_chorus(tmp_path, demo_judged(queries=4, per_query=6, seed=5))
    command = ["evaluate", "--judgments", str(judgments), "--catalogue", str(catalogue), "--ranker", str(ranker)]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["data"]["queries"] == 4


def test_a_ranker_is_measured_by_what_was_bought_after_what_it_knows(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The window of training: carts from it, features from before it."""
    champion = run(lake, tmp_path / "registry").champion
    assert champion is not None
    judged, seen = demo_judged(queries=8, per_query=9), []
    judgments, catalogue = write_chorus(tmp_path, judged)
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", lake._settings.catalog)
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", lake._settings.data_path)
    score = Ranker.score

    def spy(ranker: Ranker, features: FeatureTable) -> Any:
        seen.append(features)
        return score(ranker, features)

    monkeypatch.setattr(Ranker, "score", spy)
    command = ["evaluate", "--judgments", str(judgments), "--catalogue", str(catalogue), "--atc", "4"]
    done = CliRunner().invoke(app, [*command, "--ranker", str(champion.folder), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    task = read_task(lake, SCALE, EngagementSettings(), window_days=7)
    rows = {pair: number for number, pair in enumerate(zip(task.queries, task.product_ids, strict=True))}
    mine = [rows[normalise_query(query), name] for query, name in zip(judged.queries, judged.product_ids, strict=True)]
    column = "pair_impressions"
    np.testing.assert_allclose(
        seen[0].values[:, seen[0].names.index(column)],
        task.features.values[mine, task.features.names.index(column)],
    )
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert table["add_to_carts"].to_pylist() == task.carts[mine].tolist()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert 0 < metrics["ranking"]["atc@4"]["value"] < 1
    pooled = CliRunner().invoke(app, ["pool", str(tmp_path / "out"), "--atc", "4", "--out", str(tmp_path / "pooled")])
    assert pooled.exit_code == 0, pooled.output
    again = json.loads((tmp_path / "pooled" / "metrics.json").read_text())
    assert again["ranking"] == metrics["ranking"]
