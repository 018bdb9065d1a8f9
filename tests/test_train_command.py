"""labelstream train and labelstream evaluate as a person uses them, on a small shop in the form of Chorus."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from command_line import labelstream as done
from judged import CATALOGUE, RATINGS, one_thread, split_judged, tiny_encoder, write_chorus
from typer.testing import CliRunner

from labelstream.actors import pair_scorer
from labelstream.cli import app
from labelstream.schemas.errors import ModelUnusable, SettingsError
from labelstream.schemas.model_card import read_card
from labelstream.schemas.scale import LabelScale, expected_score
from labelstream.training.demo_labeller import tiny_random_labeller
from labelstream.training.judgments import JudgedPairs

TRAINING, OTHERS = split_judged(14, 4, per_query=6)
QUICK = ["--epochs", "2", "--batch-size", "16", "--learning-rate", "3e-3", "--held-out", "0.25", "--weak-pairs", "0"]


class Shop(NamedTuple):
    """Files of the test, as options."""

    training: list[str]
    others: list[str]
    encoder: Path
    llama: Path


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """The command sets up logging for a process of its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    tiny_random_labeller(folder / "llama")
    options = []
    for name, judged in (("training.csv", TRAINING), ("others.csv", OTHERS)):
        judgments, catalogue = write_chorus(folder, judged, name)
        options.append(["--judgments", str(judgments), "--catalogue", str(catalogue)])
    return Shop(options[0], options[1], tiny_encoder(folder / "encoder"), folder / "llama")


def labelstream(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def cross_encoder(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("models") / "cross-encoder"
    return out, done("train", "cross-encoder", *shop.training, "--base", shop.encoder, "--layers", "1",
                     "--out", out, *QUICK)  # fmt: skip


def assert_is_a_table(text: str) -> None:
    """Standard output is for results: no bars and no losses of single steps."""
    title, *lines = text.strip().splitlines()
    assert title.strip() == "on the held-out queries"
    assert {line[0] for line in lines} <= set("┌├│└╭╰┏┡┃")


def check_evaluation(folder: Path, judged: JudgedPairs) -> None:
    """The figures are those of the predictions, and these are about the judged pairs."""
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["data"]["pairs"] == len(judged)
    assert metrics["data"]["queries"] == 4
    assert metrics["method"]["resamples"] == 100
    rows = pq.read_table(folder / "predictions.parquet").to_pydict()
    assert rows["query"] == list(judged.queries)
    assert rows["product_id"] == list(judged.product_ids)
    assert rows["level"] == judged.levels.tolist()
    probabilities = np.array([rows[f"probability_{name}"] for name in LabelScale().levels]).T
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows["expected_score"], expected_score(probabilities, LabelScale()), atol=1e-6)
    right = (np.array(rows["predicted_level"]) == judged.levels).mean()
    assert metrics["labels"]["accuracy"]["value"] == pytest.approx(right)
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(judged)


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore:`torch.distributed.reduce_op` is deprecated:FutureWarning")
def test_a_labeller_is_trained_and_measured_on_other_queries(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "models" / "labeller"
    trained = done(
        "train", "labeller", *shop.training, "--base", shop.llama, "--max-tokens", "192", "--out", out, *QUICK
    )
    assert f"LABELSTREAM_LABELLER_MODEL={out}" in trained.stderr
    assert "generative" in trained.stdout
    assert "negative_log_likelihood" in trained.stdout
    assert_is_a_table(trained.stdout)
    card = read_card(out)
    assert (card.kind, card.max_tokens, card.base) == ("generative", 192, "llama")
    assert card.training["weak_pairs"] == 0

    for name, value in {"DTYPE": "float32", "MAX_SEQUENCES": "16", "MAX_BATCHED_TOKENS": "512", "THREADS": "1"}.items():
        monkeypatch.setenv(f"LABELSTREAM_LABELLER_{name}", value)
    measured = done("evaluate", *shop.others, "--labeller", out, "--out", tmp_path / "found", "--resamples", "100")
    assert "kappa" in measured.stdout
    assert "95 %" in measured.stdout
    check_evaluation(tmp_path / "found", OTHERS)


def test_a_cross_encoder_is_trained_and_measured_on_other_queries(
    shop: Shop, cross_encoder: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pair_scorer, "_dtype", lambda _: "float32")
    out, trained = cross_encoder
    assert f"LABELSTREAM_ENCODER_MODEL={out}" in trained.stderr
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 1
    card = read_card(out)
    assert (card.kind, card.max_tokens) == ("classifier", 64), "left out, and so what fits an encoder"
    done("evaluate", *shop.others, "--cross-encoder", out, "--out", tmp_path / "found", "--resamples", "100")
    check_evaluation(tmp_path / "found", OTHERS)


def test_a_bi_encoder_is_measured_as_a_ranker(shop: Shop, tmp_path: Path):
    measured = done("evaluate", *shop.others, "--cross-encoder", shop.encoder, "--out", tmp_path / "found",
                    "--resamples", "100")  # fmt: skip
    metrics = json.loads((tmp_path / "found" / "metrics.json").read_text())
    assert metrics["labels"] is None
    assert 0 < metrics["ranking"]["ndcg_linear@10"]["value"] <= 1
    assert "ndcg" in measured.stdout


def test_raters_soften_what_is_to_be_answered(shop: Shop, tmp_path: Path):
    """Everybody says the opposite of what stands in the judgements, and all votes count for them."""
    raters = tmp_path / "raters.csv"
    with raters.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("query", "docid", "agent_1_rating", "agent_2_rating", "final_rating"))
        for query, product, level in zip(TRAINING.queries, TRAINING.product_ids, TRAINING.levels, strict=True):
            said = int(RATINGS[2 - level])
            writer.writerow((query, product, said, said, int(RATINGS[level])))
    losses = []
    for name, share in (("votes", "1"), ("level", "0")):
        done("train", "cross-encoder", *shop.training, "--raters", raters, "--rater-share", share, "--base",
             shop.encoder, "--out", tmp_path / name, *QUICK)  # fmt: skip
        losses.append(read_card(tmp_path / name).metrics["negative_log_likelihood"])
    assert losses[0] > losses[1]


def test_a_teacher_adds_pairs_of_a_log_and_of_the_catalogue(shop: Shop, tmp_path: Path):
    judgments, catalogue = write_chorus(tmp_path, TRAINING)
    kept = set(TRAINING.product_ids) | {product.product_id for product in CATALOGUE[:30]}
    lines = [line for line in catalogue.read_text().splitlines(keepends=True) if json.loads(line)["id"] in kept]
    catalogue.write_text("".join(lines))
    queries = tmp_path / "queries.txt"
    queries.write_text("blue hat\n\n  a green kettle \n")
    trained = done("train", "cross-encoder", "--judgments", judgments, "--catalogue", catalogue, "--base", shop.encoder,
                   "--out", tmp_path / "new", *QUICK, "--weak-pairs", "60", "--queries", queries)  # fmt: skip
    training = read_card(tmp_path / "new").training
    assert (training["weak_pairs"], training["dropout"]) == (60, 0.0)
    assert 20 < training["pairs"] - 2 * training["judged_pairs"] <= 72
    assert f"reading {len(lines)} products" in trained.stderr
    assert_is_a_table(trained.stdout)


def test_a_teacher_s_pairs_are_kept_for_the_next_size(shop: Shop, tmp_path: Path):
    judgments, catalogue = write_chorus(tmp_path, TRAINING)
    kept = set(TRAINING.product_ids) | {product.product_id for product in CATALOGUE[:30]}
    lines = [line for line in catalogue.read_text().splitlines(keepends=True) if json.loads(line)["id"] in kept]
    catalogue.write_text("".join(lines))
    pairs = tmp_path / "pairs.parquet"
    command = ["train", "cross-encoder", "--judgments", judgments, "--catalogue", catalogue, "--base", shop.encoder,
               *QUICK, "--epochs", "0.5", "--weak-pairs", "40", "--teacher-pairs", pairs]  # fmt: skip
    first = done(*command, "--layers", "1", "--out", tmp_path / "one")
    assert f"reading {len(lines)} products" in first.stderr
    before = pairs.read_bytes()
    second = done(*command, "--layers", "2", "--out", tmp_path / "two")
    assert "products, for a teacher" not in second.stderr
    assert f"reading the teacher's pairs from {pairs}" in second.stderr.replace("\n", "")
    cards = [read_card(tmp_path / name).training["pairs"] for name in ("one", "two")]
    assert cards[0] == cards[1]
    with pytest.raises(SettingsError, match=r"pairs\.parquet: .* other judgements, seed than"):
        done(*command, "--seed", "2", "--out", tmp_path / "three")
    with catalogue.open("a") as file:
        file.write(lines[0])
    with pytest.raises(SettingsError, match="other catalogue than"):
        done(*command, "--out", tmp_path / "three")
    with pytest.raises(SettingsError, match="--teacher-pairs: there are none to keep"):
        done(*command, "--weak-pairs", "0", "--out", tmp_path / "three")
    assert pairs.read_bytes() == before
    assert not (tmp_path / "three").exists()


class TestRefusals:
    """Found before anything is loaded for long, and nothing is left under --out."""

    def refused(self, error: type[Exception], match: str, *arguments: str | Path) -> None:
        with pytest.raises(error, match=match):
            done(*arguments)

    def test_no_base(self, shop: Shop, tmp_path: Path):
        for command in ("labeller", "cross-encoder"):
            self.refused(ModelUnusable, "--base=.*nowhere", "train", command, *shop.training, "--base",
                         tmp_path / "nowhere", "--out", tmp_path / "new")  # fmt: skip
        assert list(tmp_path.iterdir()) == []

    def test_a_base_in_pickle_form(self, shop: Shop, tmp_path: Path):
        base = tmp_path / "base"
        base.mkdir()
        (base / "config.json").write_bytes((shop.encoder / "config.json").read_bytes())
        (base / "pytorch_model.bin").touch()
        self.refused(ModelUnusable, r"--base=.*holds no \*\.safetensors", "train", "labeller", *shop.training,
                     "--base", base, "--out", tmp_path / "new")  # fmt: skip

    def test_an_out_that_is_there(self, shop: Shop, cross_encoder: tuple[Path, Result]):
        out, _ = cross_encoder
        before = {path: path.read_bytes() for path in out.iterdir()}
        self.refused(SettingsError, "--out .* exists", "train", "cross-encoder", *shop.training, "--base", shop.encoder,
                     "--out", out, *QUICK)  # fmt: skip
        assert {path: path.read_bytes() for path in out.iterdir()} == before

    def test_no_catalogue(self, shop: Shop, tmp_path: Path):
        self.refused(SettingsError, "--catalogue is missing", "train", "labeller", *shop.training[:2], "--out",
                     tmp_path / "new")  # fmt: skip

    def test_judgements_of_other_products(self, shop: Shop, tmp_path: Path):
        judgments = tmp_path / "judgments.csv"
        judgments.write_text("query,docid,rating\nsofa,unknown,3\n")
        self.refused(SettingsError, "judgments.csv", "train", "labeller", "--judgments", judgments, *shop.training[2:],
                     "--base", shop.llama, "--out", tmp_path / "new")  # fmt: skip

    def test_an_adapter_without_a_rank(self, shop: Shop, tmp_path: Path):
        self.refused(SettingsError, "--adapter-only.*--lora-rank", "train", "labeller", *shop.training, "--base",
                     shop.llama, "--adapter-only", "--out", tmp_path / "new", *QUICK)  # fmt: skip

    def test_not_one_model_to_measure(self, shop: Shop, tmp_path: Path):
        for models in ((), ("--labeller", shop.llama, "--cross-encoder", shop.encoder)):
            self.refused(
                SettingsError, "name one model", "evaluate", *shop.others, *models, "--out", tmp_path / "found"
            )

    def test_a_decision_that_there_is_not(self, shop: Shop, tmp_path: Path):
        self.refused(SettingsError, "--decision best: choose", "evaluate", *shop.others, "--cross-encoder",
                     shop.encoder, "--decision", "best", "--out", tmp_path / "found")  # fmt: skip
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "option", [("--epochs", "0"), ("--held-out", "1"), ("--max-tokens", "3"), ("--seed", "-1")]
    )
    def test_numbers_out_of_range(self, shop: Shop, tmp_path: Path, option: tuple[str, str]):
        result = labelstream("train", "labeller", *shop.training, "--out", tmp_path / "new", *option)
        assert result.exit_code == 2
        assert option[0] in result.stderr
