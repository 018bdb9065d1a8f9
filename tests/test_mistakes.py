"""What people do wrong, and what they did not expect: one line that names the remedy, and nothing of theirs is lost."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from command_line import labelstream
from judged import demo_judged, write_chorus
from typer.testing import CliRunner

from labelstream import __version__
from labelstream.actors import local_serving
from labelstream.cli import app
from labelstream.commands import answers, evaluate, train
from labelstream.commands.judgements import Layout
from labelstream.commands.teacher import TrainingFiles, teacher
from labelstream.console import err, print_error, print_table, progress_bar
from labelstream.schemas.errors import ModelUnusable, SettingsError
from labelstream.schemas.judgements import Judgements
from labelstream.schemas.settings import Settings
from labelstream.streaming import importers, topics
from labelstream.streaming.lake import Lake
from labelstream.training.demo_catalogue import demo_catalogue
from labelstream.training.demo_judgments import demo_truth
from labelstream.training.fine_tuning import FineTuneSettings
from labelstream.training.unfinished import unfinished

JUDGED = demo_judged(6, per_query=4)


@pytest.fixture
def shop(tmp_path: Path) -> list[str]:
    judgments, catalogue = write_chorus(tmp_path, JUDGED, "judgments.csv")
    return ["--judgments", str(judgments), "--catalogue", str(catalogue)]


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


def test_a_demo_deletes_nothing_that_no_demo_has_made(tmp_path: Path):
    """As with --folder .labelstream, where `labelstream kafka --folder .labelstream/kafka` keeps its records."""
    records = tmp_path / "kafka" / "records"
    records.parent.mkdir()
    records.write_text("a month of searches")
    with pytest.raises(SettingsError, match=r"--folder .*: holds kafka.*name a folder of its own"):
        labelstream("demo", "--folder", tmp_path)
    assert records.read_text() == "a month of searches"


def test_a_shop_with_more_queries_than_there_are_is_refused():
    one = demo_catalogue(products=100)[:1]
    with pytest.raises(SettingsError, match=r"--queries 100000: .*ask for fewer"):
        list(demo_truth(one, queries=100_000, per_query=3, seed=1))


def test_a_simulation_beyond_the_calendar_names_its_option(shop: list[str], tmp_path: Path):
    with pytest.raises(SettingsError, match=r"^--days: 28 days from 9999-12-31 reach beyond 9999-12-31"):
        labelstream("simulate", *shop, "--out", tmp_path / "log", "--start", "9999-12-31")


@pytest.mark.parametrize(("option", "value"), [("--max-tokens", "200000"), ("--epochs", "inf")])
def test_a_training_that_cannot_be_names_its_option(shop: list[str], tmp_path: Path, option: str, value: str):
    with pytest.raises(SettingsError, match=f"^{option}: "):
        labelstream("train", "labeller", *shop, "--out", tmp_path / "model", option, value)


def queries_of(path: Path) -> Any:
    files = TrainingFiles(path, None, None, Layout.CHORUS, None, path, None)
    made = teacher(files, JUDGED, Settings(), FineTuneSettings(weak_pairs=10))
    return cast("Any", made)._queries


def test_queries_of_a_log_may_be_packed_and_have_a_byte_order_mark(tmp_path: Path):
    path = tmp_path / "queries.txt"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfred sofa\r\n\r\n  Lampe f\xc3\xbcr K\xc3\xbcche \r\n"))
    assert queries_of(path) == ["red sofa", "Lampe für Küche"]


def test_queries_that_are_not_utf_8_are_named_by_their_line(tmp_path: Path):
    path = tmp_path / "queries.txt"
    path.write_bytes("red sofa\nKüche\n".encode("latin-1"))
    with pytest.raises(SettingsError, match="line 2 is not UTF-8"):
        queries_of(path)


def test_an_output_that_cannot_be_is_named_before_the_model_is_asked(
    shop: list[str], a_file: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[object] = []
    monkeypatch.setattr(evaluate, "ask_cross_encoder", lambda *arguments: asked.append(arguments))
    with pytest.raises(SettingsError, match="name a folder that may be written"):
        labelstream("evaluate", *shop, "--cross-encoder", "packaged", "--out", a_file / "evaluation")
    assert not asked


def test_a_model_below_a_file_is_refused(a_file: Path):
    with pytest.raises(SettingsError, match="name a folder that may be written"), unfinished(a_file / "model", {}):
        pass


def test_what_to_set_is_said_as_a_shell_takes_it(capsys: pytest.CaptureFixture[str]):
    train._say_how_to_use({"LABELSTREAM_ENCODER_MODEL": "my models/[first]"})
    assert capsys.readouterr().err.strip() == "use it with LABELSTREAM_ENCODER_MODEL='my models/[first]'"


class Knowing:
    """An engine that says what people have said."""

    def judge(self, queries: list[str], texts: list[str]) -> Future[Judgements]:
        known = dict(zip(zip(*JUDGED.texts, strict=True), JUDGED.levels.tolist(), strict=True))
        levels = [known[pair] for pair in zip(queries, texts, strict=True)]
        future = Future[Judgements]()
        probabilities = np.eye(3, dtype=np.float32)[levels]
        future.set_result(Judgements(probabilities, np.zeros(len(texts), np.bool_), {}))
        return future


def test_what_a_labeller_says_in_parts_is_in_the_order_of_the_pairs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answers, "_PART", 5)
    shuffled = JUDGED.select(np.random.default_rng(1).permutation(len(JUDGED)))
    found = answers._judged_in_parts(shuffled, cast("Any", Knowing()))
    assert found.argmax(axis=1).tolist() == shuffled.levels.tolist()


def test_the_version_is_where_people_look_for_it():
    assert labelstream("--version").stdout == labelstream("version").stdout == f"{__version__}\n"


def test_an_error_is_printed_whole_because_its_remedy_comes_last(capsys: pytest.CaptureFixture[str]):
    print_error(SettingsError("x" * 1000 + "; name another file"))
    assert capsys.readouterr().err == f"SettingsError: {'x' * 1000}; name another file\n"


def test_names_and_queries_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]):
    err.print("written to runs[/b]/[red]/:car:", soft_wrap=True)
    print_table("[1]", ("query",), [("[red] sofa :car: \x1b[31m",)])
    said = capsys.readouterr()
    assert said.err == "written to runs[/b]/[red]/:car:\n"
    assert said.out.startswith("[1]")
    assert "[red] sofa :car: \\x1b[31m" in said.out


def test_a_catalogue_in_another_format_does_not_fill_the_screen(shop: list[str], tmp_path: Path):
    catalogue = tmp_path / "other.jsonl"
    catalogue.write_text("not a product\n" * 20)
    command = ["simulate", *shop[:2], "--catalogue", str(catalogue), "--out", str(tmp_path / "log")]
    done = CliRunner().invoke(app, command)
    assert "rows is left" in str(done.exception)
    assert done.stderr.count("other.jsonl") == 5
    assert "… and 15 more lines that hold no product" in done.stderr


def test_an_import_of_nothing_asks_for_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    catalogue = tmp_path / "other.jsonl"
    catalogue.write_text("not a product\n" * 20)
    monkeypatch.setattr(topics, "ensure_topics", lambda *_: None)
    monkeypatch.setattr(importers, "publish_products", lambda products, *_: len(list(products)))
    with pytest.raises(SettingsError, match=r"none of its 20 lines is a product.*--format"):
        labelstream("import", catalogue)


def test_a_title_is_not_broken_to_fit_its_table(capsys: pytest.CaptureFixture[str]):
    print_table("/etc/labelstream/tokens/of the search team", ("name",), [])
    assert "/etc/labelstream/tokens/of the search team\n" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["inf", "1e-320", "1e300"])
def test_a_speed_that_nobody_measured_is_refused(value: str):
    with pytest.raises(SettingsError, match=r"^--pairs-per-second .*: must be 1e-06 to 1e\+12"):
        labelstream("cost", "--pairs-per-second", value, "--hit-share", "0")


def test_a_list_that_is_no_json_is_shown_how(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_SCALE_LEVELS", "bad,good")
    with pytest.raises(SettingsError, match=r'SCALE_LEVELS: must be JSON, such as \["bad", "good"\]'):
        Settings.load()


def test_a_catalogue_of_the_lake_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", f"sqlite:{tmp_path}")
    with pytest.raises(SettingsError, match=r"LABELSTREAM_LAKE_CATALOG=.* is a folder; name a file in it"):
        labelstream("status")


@pytest.mark.parametrize("option", ["--labeller", "--cross-encoder"])
def test_a_model_that_is_not_there_is_named_by_its_option(shop: list[str], tmp_path: Path, option: str):
    with pytest.raises(ModelUnusable, match=f"^{option}=/nowhere: neither a folder"):
        labelstream("evaluate", *shop, option, "/nowhere", "--out", tmp_path / "out")


def test_an_adapter_of_no_labeller_is_refused(shop: list[str], tmp_path: Path):
    with pytest.raises(SettingsError, match="--adapter: only a --labeller"):
        labelstream("evaluate", *shop, "--cross-encoder", "packaged", "--adapter", "a=b", "--out", tmp_path / "out")


def test_an_evaluation_without_predictions_says_so(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"predictions\.parquet: no such file; name a predictions\.parquet"):
        labelstream("pool", tmp_path, "--out", tmp_path / "out")


def test_a_report_is_no_folder(tmp_path: Path):
    done = CliRunner().invoke(app, ["report", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert re.search(r"is\W+a\W+directory", done.output)  # in a box, broken to fit


def test_serve_without_a_model_says_so_before_ray_is_started(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_ENDPOINT_ALLOW_ANONYMOUS", "true")
    monkeypatch.setenv("LABELSTREAM_ENDPOINT_PORT", "0")
    monkeypatch.setattr(local_serving, "start_ray", pytest.fail)
    with pytest.raises(ModelUnusable, match=r"^LABELSTREAM_LABELLER_MODEL is empty"):
        labelstream("serve")


def test_an_empty_statement_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", f"sqlite:{tmp_path}/lake.sqlite")
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", f"{tmp_path}/lake")
    Lake(Settings.load().lake).close()
    with pytest.raises(SettingsError, match="the statement is empty; give one SELECT"):
        labelstream("sql", " ")


def test_a_bar_with_much_to_say_keeps_its_figures(capsys: pytest.CaptureFixture[str]):
    with progress_bar() as bar:
        bar.add_task("records", total=1_321_000, completed=1_321_000, note="labelled 421,000  cached 263,000 " * 3)
    assert "1321000/1321000" in capsys.readouterr().err


def test_a_catalogue_that_is_a_pipe_is_refused_because_it_is_read_again(shop: list[str], tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    options = [*shop[:2], "--catalogue", str(pipe), "--out", str(tmp_path / "new"), "--cross-encoder", "packaged"]
    result = CliRunner().invoke(app, ["evaluate", *options])
    assert result.exit_code == 2
    assert "save it as a file" in " ".join(result.output.replace("│", " ").split())


def test_results_that_find_no_room_are_one_line_and_worth_another_try():
    script = "from labelstream.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script, "settings"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 75
    assert done.stderr.startswith("TransientError: standard output, or a file: no space left")
    assert done.stderr.count("\n") == 1
