"""The report, from files that the evaluation itself has written, and from a real lake."""

from __future__ import annotations

import copy
import html
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from judged import demo_judged, with_raters
from lakes import a_commit, label_rows, lake_settings
from matplotlib.figure import Figure
from typer.testing import CliRunner

from labelstream.commands.report import report
from labelstream.schemas.drift import population_stability_index
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.scale import LabelScale
from labelstream.streaming.lake import Lake
from labelstream.training import durable_files, report_labels
from labelstream.training.evaluation import evaluate, write_evaluation
from labelstream.training.judgments import JudgedPairs
from labelstream.training.predictions import predictions_table
from labelstream.training.report import read_report_inputs, render_report, write_report
from labelstream.training.report_figures import polarization
from labelstream.training.report_inputs import Ablation, AblationRow, Measure, Source, Tradeoff
from labelstream.training.report_label_figures import drift, label_mix
from labelstream.training.report_labels import DRIFT_MINIMUM, LabelHistory, ModelDrift, read_label_history
from labelstream.training.report_learning_figures import differences, front
from labelstream.training.report_page import ReportInputs
from labelstream.training.report_svg import COLOURS, as_svg, drawing_style
from labelstream.training.report_text import clean, is_clear, measure_name, number, shortened, signed

SCALE = LabelScale()
SCRIPT = "<script>document.title = 'ran'</script>"
IMAGE = "\"'><img src=x onerror=\"document.title = 'ran'\">"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def hostile_pairs() -> JudgedPairs:
    """Pairs of raters, whose first two queries would run if they could."""
    judged = with_raters(demo_judged(12, 9))
    named = dict(zip(dict.fromkeys(judged.queries), (SCRIPT, f"{IMAGE} \x00 {{{{ 7 * 7 }}}}"), strict=False))
    return replace(judged, queries=tuple(named.get(query, query) for query in judged.queries))


def write_folder(folder: Path, judged: JudgedPairs, *, ranker: bool = False) -> Path:
    """An evaluation of guesses that are wrong about the first two queries and noisy about the others."""
    generator = np.random.default_rng(4)
    wrong = np.array([query in set(list(dict.fromkeys(judged.queries))[:2]) for query in judged.queries])
    levels = np.where(wrong, 2 - judged.levels, judged.levels)
    probabilities = 0.6 * np.eye(3)[levels] + 0.4 * generator.dirichlet(np.ones(3), len(judged))
    said: dict[str, Any] = {"scores": probabilities @ [0, 1, 2]} if ranker else {}
    given = None if ranker else probabilities
    table = predictions_table(judged, given, scale=SCALE, **({"scores": None} | said))
    write_evaluation(folder, evaluate(judged, given, SCALE, resamples=100, **said), table)
    return folder


def measure(value: float | None, half: float = 0.01) -> dict[str, float | None]:
    return {"value": value, "low": None, "high": None} if value is None else {
        "value": value, "low": value - half, "high": value + half,
    }  # fmt: skip


def ablation_file(*, simulated: bool = True) -> dict[str, Any]:
    names = ("engagement only", f"labels {SCRIPT}", "labels $\\frac{ 日本 ✓")
    rows = [
        {
            "name": name, "features": features, "content_ndcg": measure(0.7 + place / 50), "atc": measure(0.4),
            "content_ndcg_delta": measure(place / 50), "atc_delta": measure(None if place == 2 else -0.005),
        }
        for place, name in enumerate(names) for features in ("all", "without_cross_encoder")
    ]  # fmt: skip
    return {"simulated": simulated, "baseline": names[0], "rows": rows}


def tradeoff_file(*, simulated: bool = True) -> dict[str, Any]:
    outcomes = [(0.75, 0.41), (0.72, 0.44), (0.71, 0.42), (0.76, 0.40)]
    points = [
        {"alpha": 10.0 * place, "beta": 0.5, "content_ndcg": content, "atc": atc}
        for place, (content, atc) in enumerate(outcomes, start=1)
    ]
    baseline = {"content_ndcg": 0.7, "atc": 0.415}
    return {
        "simulated": simulated, "catalogue": f"shop {IMAGE}", "points": points, "baseline": baseline,
        "front": [0, 3, 1], "chosen": 0, "rule": "best content & no worse engagement",
    }  # fmt: skip


def cost_file() -> dict[str, Any]:
    row = {"what": f"judge {SCRIPT}", "pairs_per_second": 12.5, "hours_per_million": 22.2222, "source": "a benchmark"}
    return {"rows": [row], "formula": "hours = 1e6 / (pairs per second) / 3600"}


FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "ablation": ablation_file,
    "tradeoff": tradeoff_file,
    "cost": cost_file,
}


def write_files(folder: Path) -> dict[str, Path]:
    paths = {name: folder / f"{name}.json" for name in FILES}
    for name, path in paths.items():
        path.write_text(json.dumps(FILES[name]()), encoding="utf-8")
    return paths


def a_history(days: int = 10, models: int = 2) -> LabelHistory:
    first = date(2026, 2, 25)
    every = tuple(first + timedelta(days=day) for day in range(days))
    counts = np.random.default_rng(1).integers(100, 400, (days, 3))
    drifts = [
        ModelDrift(f"{IMAGE}@{number}", 500, first, every[1:], tuple(0.03 * day for day in range(1, days)), 1)
        for number in range(models)
    ]
    return LabelHistory(SCALE.levels, every, counts, tuple(drifts), 0, 7, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluations of a judge and of a ranker, and the three files."""
    folder = tmp_path_factory.mktemp("inputs")
    judged = hostile_pairs()
    write_folder(folder / "judge", judged)
    write_folder(folder / "ranker", judged, ranker=True)
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def inputs(folder: Path) -> ReportInputs:
    """Everything that a report can show."""
    evaluations = {f"judge {SCRIPT}": folder / "judge", "ranker": folder / "ranker"}
    paths = {name: folder / f"{name}.json" for name in FILES}
    return replace(read_report_inputs(evaluations, **paths), history=a_history())


@pytest.fixture(scope="module")
def page(inputs: ReportInputs) -> str:
    return render_report(inputs)


class Outline(HTMLParser):
    """What a browser would see: every element, and the text of the tables."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._caption = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "caption":
            self._caption = ""
        if tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        if tag in ("td", "th"):
            self.tables[self._caption][-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "caption" in self.open:
            self._caption += data
        elif {"td", "th"} & set(self.open):
            self.tables[self._caption][-1][-1] += data

    def named(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def test_nothing_of_the_data_becomes_markup(page: str, outline: Outline):
    assert SCRIPT in outline.text
    assert IMAGE in outline.text
    assert "{{ 7 * 7 }}" in outline.text
    assert "<script" not in page
    assert "<img" not in page
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]
    policy = next(one["content"] for one in outline.named("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


def test_the_page_needs_nothing_from_outside(page: str, outline: Outline):
    assert not outline.named("link", "iframe", "object", "embed", "base", "form")
    targets = [one[name] for _, one in outline.elements for name in ("href", "src", "xlink:href") if name in one]
    assert targets
    assert all(target.startswith("#") for target in targets)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert not re.search(r"https?://", page)


def test_every_id_is_there_once_and_every_reference_meets_one(page: str, outline: Outline):
    ids = Counter(one["id"] for _, one in outline.elements if "id" in one)
    assert max(ids.values()) == 1
    used = set(re.findall(r"url\(#([^)]+)\)", page)) | {one["href"][1:] for one in outline.named("a", "use")}
    assert used <= set(ids)


def test_every_figure_can_be_read_out_and_follows_light_and_dark(page: str, outline: Outline):
    drawings = outline.named("svg")
    assert len(drawings) == len(outline.named("figure")) == len(outline.named("figcaption")) == 6
    assert all(one["role"] == "img" and len(one["aria-label"]) > 40 for one in drawings)
    inside = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}", inside)
    used = set(re.findall(r"var\(--([a-z]+)\)", page))
    assert used - {"link", "share"} <= {colour.role for colour in COLOURS}
    sheet = page[page.index("<style>") : page.index("</style>")]
    assert "@media screen and (prefers-color-scheme: dark)" in sheet
    assert all(sheet.count(f"--{colour.role}: ") == 2 for colour in COLOURS)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", inside)
    for label in ("accuracy (share of pairs)", "expected score (0 worst, 1 best)", "day (UTC)", "strict: α 10, β 0.65"):
        assert label in texts


def test_every_table_has_a_caption_and_headers_and_scrolls_by_itself(page: str, outline: Outline):
    tables = len(outline.named("table"))
    assert tables == len(outline.named("caption")) == len(outline.named("thead")) > 10
    assert all(one.get("scope") in ("col", "row") for one in outline.named("th"))
    assert len(re.findall(r'<div class="scroll"[^>]*>\s*<table', page)) == tables


def test_the_tables_say_what_was_measured(folder: Path, outline: Outline):
    told = json.loads((folder / "judge" / "metrics.json").read_text(encoding="utf-8"))
    labels = told["labels"]
    confusion = outline.tables["Confusion of this judge: pairs, and share of the row"][1:]
    for written, row in zip(confusion, labels["confusion"], strict=True):
        assert written[1:] == [f"{count}{count / sum(row):.0%}" for count in row] + [str(sum(row))]
    rows = {row[0]: row[2:] for row in outline.tables["All measures, with their intervals below"][1:]}
    kappa = labels["quadratic_kappa"]
    assert rows["quadratic κ"][0] == f"{kappa['value']:.3f} {kappa['low']:.3f} to {kappa['high']:.3f}"
    assert rows["quadratic κ"][1] == "n/a"
    among = [one["quadratic_kappa"]["value"] for one in told["humans"] if one["reference"] != "adjudicated"]
    assert rows["quadratic κ"][2] == f"{min(among):.3f} to {max(among):.3f}"
    ranking = json.loads((folder / "ranker" / "metrics.json").read_text(encoding="utf-8"))["ranking"]["ndcg_linear@10"]
    assert rows["NDCG@10, linear gain"][1].startswith(f"{ranking['value']:.3f}")
    people = [rater["ndcg_linear@10"]["value"] for rater in told["humans_ranking"].values()]
    assert rows["NDCG@10, linear gain"][2] == f"{min(people):.3f} to {max(people):.3f}"
    agreement = outline.tables["Agreement: this judge beside the humans"][1:]
    assert len(agreement) == 1 + len(told["humans"])
    assert agreement[1][:2] == ["rater 2\nagainst rater 1", str(told["humans"][0]["pairs"])]
    mistakes = outline.tables["Where the judge is furthest from the people"][1:]
    assert {SCRIPT} <= {row[0] for row in mistakes}
    assert all(row[2] != row[3] for row in mistakes)
    by_level = outline.tables["By level"][1:]
    assert [row[-1] for row in by_level] == [str(labels["per_class"][level]["support"]) for level in SCALE.levels]


def test_the_trade_off_the_ablation_and_the_cost_are_shown_as_given(outline: Outline):
    points = outline.tables["The front, the chosen point and the baseline (simulated)"][1:]
    assert [row[0] for row in points] == ["front", "front, chosen", "front", "baseline"]
    assert points[1] == ["front, chosen", "10", "0.5", "0.750", "+0.050", "0.410", "−0.005"]
    rows = outline.tables["Ablation (simulated)"][1:]
    assert len(rows) == 6
    assert rows[2][:4] == [f"labels {SCRIPT}", "all features", "0.720 0.710 to 0.730", "+0.020 * 0.010 to 0.030"]
    assert rows[4][5] == "n/a"
    assert outline.tables["Time to label a million pairs"][1] == [f"judge {SCRIPT}", "12.5", "22.22", "a benchmark"]
    assert [row[0] for row in outline.tables["What this page was made of"][1:]] == [
        f"evaluation judge {SCRIPT}", "evaluation ranker", "tradeoff", "ablation", "cost",
    ]  # fmt: skip


def test_simulated_figures_are_marked_and_only_those(inputs: ReportInputs, page: str):
    assert page.count("<strong>Simulated.</strong>") == 2
    assert "Some figures are simulated" in page
    assert inputs.ablation is not None
    real = replace(inputs, ablation=inputs.ablation.model_copy(update={"simulated": False}), tradeoff=None)
    told = re.sub(r"<style>.*?</style>", "", render_report(replace(real, evaluations=())), flags=re.DOTALL)
    assert "cost.json" in told
    assert "simulated" not in told.lower()
    [judge, _] = inputs.evaluations
    metrics = judge.metrics.model_copy(update={"simulated": True})
    told = render_report(ReportInputs(evaluations=(replace(judge, metrics=metrics),)))
    assert "Some figures are simulated" in told
    assert told.count("<strong>Simulated.</strong>") == 1


def test_add_to_carts_of_which_nothing_is_said_are_pointed_out(inputs: ReportInputs, page: str):
    assert "is not said of" not in page
    [judge, _] = inputs.evaluations
    ranking = judge.metrics.ranking | {"atc@40": judge.metrics.ranking["ndcg_linear@10"]}
    told = judge.metrics.model_copy(update={"ranking": ranking})
    assert "is not said of judge" in render_report(ReportInputs(evaluations=(replace(judge, metrics=told),)))


def test_a_name_that_no_page_can_hold_is_replaced(inputs: ReportInputs):
    [judge, _] = inputs.evaluations
    told = render_report(ReportInputs(evaluations=(replace(judge, name="a\udcff\x00b"),)))
    assert "a\ufffd\ufffdb" in Outline(told.encode("utf-8").decode("utf-8")).text


def test_the_same_inputs_give_the_same_page(inputs: ReportInputs, page: str):
    assert render_report(inputs) == page


def test_each_input_may_stand_alone(folder: Path):
    for what in FILES:
        told = render_report(read_report_inputs({}, **{what: folder / f"{what}.json"}))
        assert Outline(told).named("table")
        assert 'id="judges"' not in told
    told = render_report(read_report_inputs({"only": folder / "ranker"}))
    assert "It ranks and gives no probabilities of levels" in told
    assert "Agreement of the humans" in told
    with pytest.raises(SettingsError, match="nothing to report: give --evaluation"):
        read_report_inputs({})


def places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key, however deep; of a list, those of its first entry."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    elif isinstance(found, list) and found:
        yield from places(found[0], (*path, 0))


def without(found: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(found)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return changed


@pytest.mark.parametrize("what", FILES)
def test_a_missing_key_is_named_with_its_file(what: str, tmp_path: Path):
    path = tmp_path / f"{what}.json"
    paths = list(places(FILES[what]()))
    assert len(paths) >= 6
    for place in paths:
        path.write_text(json.dumps(without(FILES[what](), place)), encoding="utf-8")
        named = re.escape(f"{what}.json: {'.'.join(map(str, place))}: Field required")
        with pytest.raises(SettingsError, match=named):
            read_report_inputs({}, **{what: path})


RATERS = {"rater_1", "rater_2", "rater_3"}
FREE_KEYS = {"method", "pairs_by_level", "per_class", "ranking", "humans_ranking", "predictions_sha256"} | RATERS


def test_a_missing_key_of_an_evaluation_is_named_with_its_file(folder: Path, tmp_path: Path):
    told = json.loads((folder / "judge" / "metrics.json").read_text(encoding="utf-8"))
    shutil.copy(folder / "judge" / "predictions.parquet", tmp_path)
    for place in places(told):
        if len(place) > 1 and place[-2] in FREE_KEYS:
            continue
        (tmp_path / "metrics.json").write_text(json.dumps(without(told, place)), encoding="utf-8")
        with pytest.raises(SettingsError, match=re.escape(f"metrics.json: {'.'.join(map(str, place))}: Field req")):
            read_report_inputs({"judge": tmp_path})


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("data", "pairs_by_level"), {"Bad level": 1, "good": 2}, "no label scale"),
        (("data", "pairs_by_level"), {"bad": 1, "good": 2}, "labels.per_class: other levels"),
        (("labels", "confusion"), [[1, 2], [3, 4]], "a confusion is not of 3 by 3"),
        (("labels", "kappa", "value"), "high", "labels.kappa.value"),
        (("predictions_sha256",), {}, "not that of .*predictions.parquet; evaluate anew"),
    ],
)
def test_metrics_that_do_not_fit_are_refused(
    place: tuple[str, ...], value: Any, said: str, folder: Path, tmp_path: Path
):
    told = json.loads((folder / "judge" / "metrics.json").read_text(encoding="utf-8"))
    inner = told
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    shutil.copy(folder / "judge" / "predictions.parquet", tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        read_report_inputs({"judge": tmp_path})


def test_what_is_no_such_file_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"metrics.json: No such file or directory"):
        read_report_inputs({"judge": tmp_path})
    for content, said in ((b"{", "Invalid JSON"), (b"[]", "valid dictionary or instance of Cost|should be an object")):
        (tmp_path / "cost.json").write_bytes(content)
        with pytest.raises(SettingsError, match=said):
            read_report_inputs({}, cost=tmp_path / "cost.json")
    (tmp_path / "cost.json").write_text(json.dumps(cost_file()).replace("12.5", "NaN"), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"rows.0.pairs_per_second"):
        read_report_inputs({}, cost=tmp_path / "cost.json")
    for key, value in (("front", [4]), ("chosen", 4)):
        (tmp_path / "tradeoff.json").write_text(json.dumps(tradeoff_file() | {key: value}), encoding="utf-8")
        with pytest.raises(SettingsError, match=f"{key} names point 4, there are 4, counted from 0"):
            read_report_inputs({}, tradeoff=tmp_path / "tradeoff.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop_columns(["expected_score"]), "column expected_score is missing"),
        (lambda table: table.set_column(4, "level", pa.array([9] * len(table))), "column level has levels beyond"),
        (lambda table: table.set_column(0, "query", pa.nulls(len(table), pa.string())), "column query has nulls"),
        (lambda _: None, "not a Parquet file"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(
    change: Callable[[pa.Table], pa.Table | None], said: str, folder: Path, tmp_path: Path
):
    import hashlib

    predictions, metrics = tmp_path / "predictions.parquet", tmp_path / "metrics.json"
    changed = change(pq.read_table(folder / "judge" / "predictions.parquet"))
    if changed is None:
        predictions.write_bytes(b"PAR1 no")
    else:
        pq.write_table(changed, predictions)
    told = json.loads((folder / "judge" / "metrics.json").read_text(encoding="utf-8"))
    told["predictions_sha256"]["predictions.parquet"] = hashlib.sha256(predictions.read_bytes()).hexdigest()
    metrics.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        read_report_inputs({"judge": tmp_path})


def write_labels(lake: Lake, moment: datetime, counts: dict[str, int], *, model: str = "m", scale: str = "") -> None:
    count = sum(counts.values())
    first = lake.offsets().get(("search-events", 0), 0)
    labels = label_rows(*range(first, first + count))
    for name, values in {
        "level": [level for level, times in counts.items() for _ in range(times)],
        "model_version": [model] * count,
        "scale_version": [scale or SCALE.version] * count,
        "judged_at": [moment] * count,
    }.items():
        place = labels.schema.get_field_index(name)
        field = labels.schema.field(name)
        labels = labels.set_column(place, field, pa.array(values, field.type))
    lake.commit(a_commit(first, count, tables={"labels": labels}))


def test_labels_are_counted_by_day_and_compared_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, many = datetime(2026, 3, 1, tzinfo=UTC), DRIFT_MINIMUM
    with Lake(lake_settings(tmp_path)) as lake:
        empty = read_label_history(lake, SCALE)
        write_labels(lake, first - timedelta(microseconds=1), {"high": many - 1})
        write_labels(lake, first, {"irrelevant": many // 2, "high": many // 2})
        write_labels(lake, first + timedelta(days=1, microseconds=-1), {"moderate": 50})
        write_labels(lake, first + timedelta(days=4), {"high": many})
        write_labels(lake, first + timedelta(days=4), {"high": 3}, model="another")
        write_labels(lake, first, {"high": 5}, scale="another")
    found = read_report_inputs({}, lake=lake_settings(tmp_path))
    history = found.history
    assert history is not None
    assert found.sources == (Source("lake", f"snapshot {history.snapshot}", ""),)
    assert history.days == (date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 5))
    assert history.counts.tolist() == [[0, 0, many - 1], [many // 2, 50, many // 2], [0, 0, many + 3]]
    assert (history.other_labels, history.earlier_labels) == (5, 0)
    expected = population_stability_index(np.array([many / 2, 50, many / 2]), np.array([0.0, 0, many]))
    busiest, other = history.drift
    assert busiest == ModelDrift("m", 3 * many + 49, date(2026, 3, 1), (date(2026, 3, 5),), (expected,), 1)
    assert other == ModelDrift("another", 3, None, (), (), 1)
    told = Outline(render_report(found))
    assert told.tables["Drift by model"][1][-1] == "moved"
    assert told.tables["Drift by model"][2][-1] == "n/a"
    assert "5 labels of other scales are left out" in told.text
    assert [row[-1] for row in told.tables["Labels by day"][1:]] == ["199", "250", "203"]
    monkeypatch.setattr(report_labels, "DAYS_SHOWN", 2)
    with Lake(lake_settings(tmp_path), read_only=True) as lake:
        newest = read_label_history(lake, SCALE)
    assert (newest.days, newest.earlier_labels) == (history.days[1:], many - 1)
    assert "199 labels of earlier days are not shown" in render_report(ReportInputs(history=newest))
    assert empty.days == ()
    assert "no labels of this scale yet" in render_report(ReportInputs(history=empty))


@pytest.mark.parametrize("days", [2, 5, 9, 400])
def test_any_number_of_days_and_levels_can_be_drawn(days: int):
    history = a_history(days, models=1)
    counts = np.hstack([history.counts, history.counts])[:, : 2 + days % 4]
    levels = ("bad", "poor", "fair", "good", "best")[: counts.shape[1]]
    drawn = label_mix(replace(history, levels=levels, counts=counts), name="mix")
    assert all(f">{level}</text>" in drawn for level in levels)
    assert "00:00" not in drawn
    assert "12:00" not in drift(list(history.drift), name="drift")


def test_a_front_of_one_point_and_measures_that_are_not_defined_can_be_drawn():
    one = tradeoff_file() | {"points": tradeoff_file()["points"][:1], "front": [0], "chosen": 0}
    assert "chosen: α 10, β 0.5" in front(Tradeoff.model_validate(one), name="front")
    nothing = Measure(value=None, low=None, high=None)
    row = AblationRow(
        name="x", features="all", content_ndcg=nothing, atc=nothing, content_ndcg_delta=nothing, atc_delta=nothing
    )
    drawn = differences(Ablation(simulated=False, baseline="x", rows=[row]), name="ablation")
    assert ">Content</text>" in drawn
    assert "content n/a" in drawn
    assert "1 pairs" in polarization(np.array([1.0]), name="polarization")


def test_a_colour_that_would_not_follow_the_page_is_refused():
    with drawing_style():
        figure = Figure()
        figure.subplots().plot([0, 1], color="#123456")
        with pytest.raises(ValueError, match="#123456, which has no role"):
            as_svg(figure, name="x", alternative="a line")


@given(st.text())
def test_any_text_can_stand_in_the_page(text: str):
    assert clean(clean(text).encode("utf-8").decode("utf-8")) == clean(text)
    assert len(clean(text)) == len(text)
    assert len(shortened(text, 12)) <= 12
    assert "\n" not in shortened(text, 12)


@given(st.floats(-1e6, 1e6))
def test_numbers_keep_their_value_and_differences_their_sign(value: float):
    read = float(number(value).replace("−", "-").replace(",", ""))
    assert read == pytest.approx(value, abs=5.1e-4)
    assert not number(value).startswith("−0.000")
    sign = signed(value)[0]
    assert sign == ("+" if read > 0 else "−" if read < 0 else "0")


def test_names_and_marks():
    names = ("ndcg_exponential@10", "atc@40", "weighted_f1", "something_new")
    assert [measure_name(name) for name in names] == [
        "NDCG@10, exponential gain", "ATC@40", "weighted F1", "something new",
    ]  # fmt: skip
    bounds = [(0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (0.0, 0.1), (None, None)]
    clear = [is_clear(Measure(value=0.1, low=low, high=high)) for low, high in bounds]
    assert clear == [True, True, False, False, False]


def test_the_page_appears_whole_or_not_at_all(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    inputs = read_report_inputs({}, cost=folder / "cost.json")
    path = tmp_path / "new" / "report.html"
    write_report(path, inputs)
    assert path.read_text(encoding="utf-8") == render_report(inputs)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(durable_files.os, "fsync", full)
    with pytest.raises(Exception, match="make room"):
        write_report(path, inputs)
    assert [found.name for found in path.parent.iterdir()] == ["report.html"]
    assert path.read_bytes() == before
    monkeypatch.undo()
    with pytest.raises(SettingsError, match="name a folder that may be written"):
        write_report(path / "below" / "report.html", inputs)
    with pytest.raises(SettingsError, match="name a folder that may be written"):
        write_report(path.parent, inputs)


@pytest.fixture
def run_report() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(report)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])


def test_the_command_writes_the_page(folder: Path, tmp_path: Path, run_report: Callable[..., Any],
                                     monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", lake_settings(tmp_path).catalog)
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", str(lake_settings(tmp_path).data_path))
    with Lake(lake_settings(tmp_path)) as lake:
        write_labels(lake, datetime(2026, 3, 1, tzinfo=UTC), {"high": 2})
    out = tmp_path / "page.html"
    files = [part for what in FILES for part in (f"--{what}", folder / f"{what}.json")]
    done = run_report("--evaluation", f"a={folder / 'judge'}", *files, "--lake", "--out", out)
    assert done.exit_code == 0, done.output
    sections = {one["id"] for one in Outline(out.read_text(encoding="utf-8")).named("h2")}
    assert sections == {"in-short", "judges", "tradeoff", "ablation", "labels", "cost", "sources"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["runs/judge"], "write NAME=FOLDER"),
        (["=runs/judge"], "write NAME=FOLDER"),
        (["a="], "write NAME=FOLDER"),
        (["a=x", "a=y"], "the name a is there twice"),
        ([], "nothing to report"),
    ],
)
def test_the_command_refuses_what_it_cannot_name(given: list[str], said: str, run_report: Callable[..., Any]):
    done = run_report(*(part for one in given for part in ("--evaluation", one)))
    assert isinstance(done.exception, SettingsError)
    assert said in str(done.exception)


# The page lies in a frame, as a browser's own window may not be as narrow as a telephone.
LOOK = """<script>
const root = document.documentElement, style = getComputedStyle;
const drawings = [...document.querySelectorAll("figure svg")];
Object.assign(parent.document.documentElement.dataset, {
  seen: document.title, view: root.clientWidth, page: root.scrollWidth,
  paper: style(document.body).backgroundColor, ink: style(drawings[0].querySelector("text")).fill,
  drawings: drawings.filter(one => one.getBoundingClientRect().height > 100).length,
});
</script></body>"""
FRAME = """<!DOCTYPE html><style>:root {{ color-scheme: light dark }}</style>
<iframe style="border: 0" width="{}" height="900" srcdoc="{}">"""


def in_browser(page: str, folder: Path, *, width: int, dark: bool) -> dict[str, str]:
    """Open the page in a real browser and ask what it sees. A script may ask, as the page's policy is taken out."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install one (Debian: apt-get install chromium)")
    asking = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", LOOK)
    path = folder / "frame.html"
    path.write_text(FRAME.format(width, html.escape(asking)), encoding="utf-8")
    options = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars "
        "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,1000"
    )
    command = [
        CHROMIUM, *options.split(), f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    root = re.search(r"<html[^>]*>", seen.stdout)
    assert root is not None
    return dict(re.findall(r'data-(\w+)="([^"]*)"', root[0]))


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_shows_it_without_running_anything(page: str, tmp_path: Path, width: int, dark: bool):
    seen = in_browser(page, tmp_path, width=width, dark=dark)
    assert seen["seen"] == "labelstream report"
    assert int(seen["page"]) == int(seen["view"]) <= width
    assert seen["drawings"] == "6"
    assert (seen["paper"] == "rgb(255, 255, 255)") is not dark
    assert seen["ink"] == ("rgb(163, 173, 184)" if dark else "rgb(87, 96, 106)")
