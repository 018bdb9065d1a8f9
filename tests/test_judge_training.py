"""From judgements to a judge on disk, and what becomes of it when somebody pulls the plug."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from judged import demo_judged, one_thread, tiny_encoder, with_raters
from safetensors.torch import load_file
from scipy.special import log_softmax
from transformers import Trainer

from labelstream.schemas.errors import ModelUnusable, SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.model_card import read_card
from labelstream.schemas.pair_encoder import PairEncoder
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.scale import LabelScale, label_distribution
from labelstream.schemas.settings import Settings
from labelstream.training import fine_tuning, judge_training
from labelstream.training import unfinished as unfinished_module
from labelstream.training.demo_labeller import tiny_random_labeller
from labelstream.training.fine_tuning import FineTuneSettings, label_logits
from labelstream.training.judge_models import load_judge
from labelstream.training.judge_training import TrainedJudge, train_judge
from labelstream.training.judgments import JudgedPairs
from labelstream.training.splits import query_holdouts
from labelstream.training.unfinished import unfinished
from labelstream.training.weak_pairs import WeakPairs

SCALE = LabelScale()
# Without patience: the vocabulary of the tiny base differs a little from process to process.
SETTINGS = FineTuneSettings(epochs=6.0, learning_rate=5e-3, batch_size=16, max_tokens=128, held_out=0.25, patience=99)
JUDGED = with_raters(demo_judged())
STEPS = 54


class Stopped(Exception):
    """Stands for whatever ends a training early."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("base") / "tiny")


def train(out: Path, base: Path, judged: JudgedPairs = JUDGED, **options: Any) -> TrainedJudge:
    settings = SETTINGS.model_copy(update=options.pop("settings", {}))
    return train_judge(judged, out, base=base, scale=SCALE, settings=settings, **options)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models") / "new"


@pytest.fixture(scope="module")
def trained(out: Path, base: Path) -> TrainedJudge:
    """A classifier, in the folder ``out``."""
    return train(out, base)


def distance(one: Path, other: Path) -> float:
    """By how much the weights of two models differ, on average."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    return float(torch.cat([(first[name] - second[name]).abs().flatten() for name in first]).mean())


# Processes may add up in another order: what vLLM has set in this one, a fresh one has not.
SAME = 0.003


def held_out(judged: JudgedPairs = JUDGED) -> JudgedPairs:
    [(_, indices)] = query_holdouts(judged.queries, share=SETTINGS.held_out, seed=SETTINGS.seed)
    return judged.select(indices)


class TestWhatIsLeft:
    def test_the_card_says_how_the_judge_is_to_be_asked_and_what_it_came_from(
        self, trained: TrainedJudge, out: Path, base: Path
    ):
        card = read_card(out)
        assert card.model_dump(exclude={"metrics"}) == trained.card.model_dump(exclude={"metrics"})
        assert (card.levels, card.kind, card.max_tokens, card.base) == (SCALE.levels, "classifier", 128, base.name)
        assert card.prompt_version == PairEncoder(load_judge(base, SCALE, SETTINGS).tokenizer, 128).format_version
        assert card.trained_at is not None
        assert abs(card.trained_at - datetime.now(UTC)).total_seconds() < 3600
        pairs = len(JUDGED) - len(held_out())
        assert card.training == {**SETTINGS.model_dump(), "judged_pairs": pairs, "pairs": pairs, "steps": STEPS}
        assert trained.left_out == 0
        assert trained.seconds > 0

    def test_nothing_but_the_model_is_left(self, trained: TrainedJudge, out: Path):
        assert trained
        assert [path.name for path in out.parent.iterdir()] == ["new"]
        names = {path.name for path in out.iterdir()}
        assert names >= {"config.json", "model.safetensors", "tokenizer.json", "labelstream.json"}
        assert {path.suffix for path in out.iterdir()} <= {".json", ".safetensors", ".txt"}
        assert {path.stat().st_mode & 0o444 for path in out.iterdir()} == {0o444}

    def test_the_model_on_disk_is_the_one_that_was_measured(self, trained: TrainedJudge, out: Path):
        judge, pairs = load_judge(out, SCALE, SETTINGS), held_out()
        logits = label_logits(judge.judge, [row.token_ids for row in judge.encode(*pairs.texts)])
        log_probabilities = log_softmax(logits / trained.card.temperature, axis=1)
        found = -log_probabilities[np.arange(len(pairs)), pairs.levels].mean()
        metrics = trained.card.metrics
        assert metrics["negative_log_likelihood"] == pytest.approx(found, abs=1e-3)
        assert metrics["held_out_pairs"] == len(pairs)
        assert found < 0.95, "better than knowing how often each level comes"
        assert metrics["kappa"] > 0.2
        assert metrics["ndcg_linear@10"] > 0

    @pytest.mark.engine
    @pytest.mark.filterwarnings("ignore:`torch.distributed.reduce_op` is deprecated:FutureWarning")
    def test_the_labeller_that_serves_it_says_the_same(self, trained: TrainedJudge, out: Path):
        from labelstream.actors.label_engine import LabelEngine

        labeller = {"model": str(out), "dtype": "float32", "max_sequences": 16, "max_batched_tokens": 512, "threads": 1}
        pairs, judge = held_out(), load_judge(out, SCALE, SETTINGS)
        with closing(LabelEngine(Settings.load(labeller=labeller, prompt={"max_tokens": 128}))) as engine:
            judgements = engine.judge(*pairs.texts).result(120)
            assert engine.describe().temperature == trained.card.temperature
        assert not judgements.errors
        logits = label_logits(judge.judge, [row.token_ids for row in judge.encode(*pairs.texts)])
        expected = label_distribution(logits, trained.card.temperature)
        np.testing.assert_allclose(judgements.probabilities, expected, atol=1e-3)


def test_a_causal_lm_becomes_a_generative_judge(tmp_path: Path):
    tiny_random_labeller(tmp_path / "base")
    options = {"epochs": 1.0, "batch_size": 32, "max_tokens": 192}
    card = train(tmp_path / "new", tmp_path / "base", settings=options).card
    assert (card.kind, card.prompt_version, card.max_tokens) == ("generative", Prompt(SCALE).version, 192)
    again = load_judge(tmp_path / "new", SCALE, SETTINGS.model_copy(update=options))
    assert again.kind == "generative"
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "new"))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in before)


def test_the_seed_decides_every_byte(trained: TrainedJudge, out: Path, base: Path, tmp_path: Path):
    assert train(tmp_path / "same", base).card.metrics == trained.card.metrics
    train(tmp_path / "other", base, settings={"seed": 2})
    assert distance(tmp_path / "same", out) == 0
    assert distance(tmp_path / "other", out) > 5 * SAME


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Starts processes that have imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=here):
        yield context


class TestKilled:
    """SIGKILL in a process of its own; then the same call again, in this one."""

    @pytest.fixture
    def kill(self, processes: ForkServerContext, base: Path) -> Callable[[str, Path], None]:
        def kill(moment: str, out: Path) -> None:
            process = processes.Process(target=_train_until, args=(moment, out, base))
            process.start()
            process.join(200)
            assert process.exitcode == -signal.SIGKILL

        return kill

    @pytest.mark.parametrize("moment", ["after a checkpoint", "half a checkpoint", "half a model"])
    def test_it_goes_on_where_it_was(
        self,
        moment: str,
        kill: Callable[[str, Path], None],
        base: Path,
        trained: TrainedJudge,
        out: Path,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        steps_done: list[int],
    ):
        kill(moment, tmp_path / "new")
        assert not (tmp_path / "new").exists()
        assert [path.name for path in tmp_path.iterdir()] == [".new.unfinished"]
        card = train(tmp_path / "new", base).card
        assert f"going on from checkpoint-{STEPS - len(steps_done)}" in caplog.text
        assert len(steps_done) < STEPS
        assert card.training["steps"] == STEPS
        assert [path.name for path in tmp_path.iterdir()] == ["new"]
        assert load_judge(tmp_path / "new", SCALE, SETTINGS).kind == "classifier"
        found = distance(tmp_path / "new", out)
        assert found < SAME
        assert card.metrics == pytest.approx(trained.card.metrics, abs=0.1)

    def test_what_is_published_is_whole(
        self, kill: Callable[[str, Path], None], trained: TrainedJudge, out: Path, tmp_path: Path
    ):
        kill("published", tmp_path / "new")
        found = distance(tmp_path / "new", out)
        assert found < SAME
        assert read_card(tmp_path / "new").metrics == pytest.approx(trained.card.metrics, abs=0.1)

    @pytest.fixture
    def steps_done(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Grows by one at each step."""
        done: list[int] = []
        step = fine_tuning._JudgeTrainer.training_step

        def counted(self: Any, *arguments: Any, **options: Any) -> Any:
            done.append(self.state.global_step)
            return step(self, *arguments, **options)

        monkeypatch.setattr(fine_tuning._JudgeTrainer, "training_step", counted)
        return done


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _train_until(moment: str, out: Path, base: Path) -> None:
    """Train, and die at that moment."""
    save, rmtree, calls = Trainer._save_checkpoint, shutil.rmtree, iter(range(100))

    def save_and_die(self: Any, *arguments: Any) -> None:
        save(self, *arguments)
        _die()

    def die_at_the_second(*_: Any) -> None:
        if next(calls):
            _die()

    def keep_or_die(path: Path, *arguments: Any, **options: Any) -> None:
        if Path(path).name.endswith(".unfinished"):
            _die()
        rmtree(path, *arguments, **options)

    patches: dict[str, Any] = {
        "after a checkpoint": mock.patch.object(Trainer, "_save_checkpoint", save_and_die),
        "half a checkpoint": mock.patch.object(Trainer, "_save_scaler", die_at_the_second),
        "half a model": mock.patch.object(judge_training, "write_card", _die),
        "published": mock.patch.object(unfinished_module.shutil, "rmtree", keep_or_die),
    }
    logging.disable()
    with one_thread(), patches[moment]:
        train(out, base)


def as_judged(judged: JudgedPairs) -> WeakPairs:
    """Weak pairs that say the same as the judged ones."""
    return WeakPairs(judged.queries, judged.products, np.eye(3)[judged.levels])


class TestOtherWork:
    """A run that was cut off is taken up by the same work only."""

    @pytest.fixture
    def stop_in_tuning(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        """Stop before the first step; one entry a call: whether it would have gone on with an earlier run."""
        found: list[bool] = []

        def stopped(*arguments: Any) -> None:
            mark = arguments[-1] / "mark"
            found.append(mark.exists())
            mark.touch()
            raise Stopped

        monkeypatch.setattr(judge_training, "fine_tune", stopped)
        return found

    def changed(self, name: str) -> dict[str, Any]:
        level = JUDGED.levels.copy()
        level[0] = 2 - level[0]
        products = (JUDGED.products[0].model_copy(update={"title": "another"}), *JUDGED.products[1:])
        parts = {
            "queries": JUDGED.queries,
            "products": JUDGED.products,
            "ratings": JUDGED.ratings,
            "levels": JUDGED.levels,
        }
        said = JUDGED.rater_levels
        return {
            "seed": {"settings": {"seed": 2}},
            "batch": {"settings": {"batch_size": 17}},
            "fewer": {"judged": JUDGED.select(np.arange(len(JUDGED) - 1))},
            "levels": {"judged": JudgedPairs(**parts | {"levels": level}, rater_levels=said)},
            "products": {"judged": JudgedPairs(**parts | {"products": products}, rater_levels=said)},
            "raters": {"judged": JudgedPairs(**parts)},
            "other raters": {"judged": with_raters(JUDGED, seed=2)},
            "weak": {"weaken": as_judged},
            "weak source": {"weaken": as_judged, "weak_source": "another catalogue"},
        }[name]

    @pytest.mark.parametrize("name", ["seed", "batch", "fewer", "levels", "products", "raters", "other raters", "weak"])
    def test_it_begins_anew(self, name: str, base: Path, tmp_path: Path, stop_in_tuning: list[bool]):
        first = {"weaken": as_judged} if name == "weak source" else {}
        for options in (first, first, self.changed(name), self.changed(name)):
            with pytest.raises(Stopped):
                train(tmp_path / "new", base, **options)
        assert stop_in_tuning == [False, True, False, True]

    def test_how_it_is_saved_does_not_matter(self, tmp_path: Path, stop_in_tuning: list[bool]):
        tiny_random_labeller(tmp_path / "base")
        for merge in (True, False):
            with pytest.raises(Stopped):
                train(tmp_path / "new", tmp_path / "base", settings={"lora_rank": 2, "max_tokens": 192}, merge=merge)
        assert stop_in_tuning == [False, True]


class TestWeakPairs:
    def spy(self, monkeypatch: pytest.MonkeyPatch) -> tuple[list[JudgedPairs], list[Any]]:
        """What the teacher was given, and what the model was to be tuned on."""
        tuned_on: list[Any] = []

        def stopped(_: Any, examples: Any, *__: Any) -> None:
            tuned_on.append(examples)
            raise Stopped

        monkeypatch.setattr(judge_training, "fine_tune", stopped)
        return [], tuned_on

    def test_the_teacher_never_sees_what_is_held_out_and_is_asked_once(
        self, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        given, tuned_on = self.spy(monkeypatch)
        distributions = np.random.default_rng(1).dirichlet(np.ones(3), size=5)

        def weaken(judged: JudgedPairs) -> WeakPairs:
            given.append(judged)
            return WeakPairs(("a lamp", "a\n sofa", "ﬁne \u2028", "x", "y"), judged.products[:5], distributions)

        for _ in range(2):
            with pytest.raises(Stopped):
                train(tmp_path / "new", base, weaken=weaken, settings={"repeat_judged": 3})
        [seen] = given
        assert not {normalise_query(q) for q in seen.queries} & {normalise_query(q) for q in held_out().queries}
        assert len(seen) + len(held_out()) == len(JUDGED)
        first, second = tuned_on
        assert first.token_ids == second.token_ids, "read back as they were made"
        np.testing.assert_array_equal(first.targets, second.targets)
        np.testing.assert_array_equal(first.weights, second.weights)
        assert len(first) == 3 * len(seen) + 5
        np.testing.assert_array_equal(first.targets[-5:], distributions)

    def test_no_held_out_query_is_among_them_in_any_spelling(
        self, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        _, tuned_on = self.spy(monkeypatch)
        hidden = f"  {held_out().queries[0].swapcase()} "

        def weaken(judged: JudgedPairs) -> WeakPairs:
            return WeakPairs(("a lamp", hidden), judged.products[:2], np.array([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]))

        with pytest.raises(Stopped):
            train(tmp_path / "new", base, weaken=weaken, settings={"repeat_judged": 1})
        assert len(tuned_on[0]) == len(JUDGED) - len(held_out()) + 1
        np.testing.assert_array_equal(tuned_on[0].targets[-1], [0.6, 0.3, 0.1])

    def test_they_count_in_the_card(self, base: Path, tmp_path: Path):
        training = train(tmp_path / "new", base, weaken=as_judged, settings={"epochs": 0.5}).card.training
        assert training["pairs"] == (SETTINGS.repeat_judged + 1) * training["judged_pairs"]


class TestRefusals:
    """Each in one line, and without a trace of a model."""

    def refused(self, error: type[Exception], match: str, out: Path, base: Path, **options: Any) -> None:
        with pytest.raises(error, match=match):
            train(out, base, **options)
        assert not list(out.parent.glob(out.name))

    def test_a_folder_that_is_there(self, base: Path, tmp_path: Path):
        (tmp_path / "new").mkdir()
        with pytest.raises(SettingsError, match=r"--out .*new exists"):
            train(tmp_path / "new", base)
        assert list((tmp_path / "new").iterdir()) == []

    def test_another_run_at_the_same_time(self, base: Path, tmp_path: Path):
        with unfinished(tmp_path / "new", {}):
            self.refused(SettingsError, "another run is writing it", tmp_path / "new", base)

    def test_no_base(self, tmp_path: Path):
        self.refused(ModelUnusable, "--base .*nowhere", tmp_path / "new", tmp_path / "nowhere")

    def test_one_query(self, base: Path, tmp_path: Path):
        alone = JUDGED.select(np.flatnonzero(JUDGED.query_numbers == 0))
        self.refused(SettingsError, "1 queries cannot be split", tmp_path / "new", base, judged=alone)

    def test_queries_that_leave_no_room(self, base: Path, tmp_path: Path):
        silent = JudgedPairs(
            tuple("sofa " * 200 + query for query in JUDGED.queries), JUDGED.products, JUDGED.ratings, JUDGED.levels
        )
        self.refused(SettingsError, "--max-tokens 128", tmp_path / "new", base, judged=silent)

    def test_an_adapter_alone_where_there_is_none(self, base: Path, tmp_path: Path):
        self.refused(SettingsError, "--adapter-only.*--lora-rank", tmp_path / "new", base, merge=False)

    def test_an_adapter_alone_of_a_classifier(self, base: Path, tmp_path: Path):
        options = {"settings": {"lora_rank": 2}, "merge": False}
        self.refused(SettingsError, "--adapter-only.*classifier", tmp_path / "new", base, **options)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_level_that_nobody_gave_is_learned_to_be_rare(base: Path, tmp_path: Path, missing: int):
    judged = JUDGED.select(np.flatnonzero(JUDGED.levels != missing))
    said = np.where(judged.rater_levels == missing, -1, judged.rater_levels)
    judged = JudgedPairs(judged.queries, judged.products, judged.ratings, judged.levels, said)
    options = {"epochs": 1.0, "balance": 1.0}
    card = train(tmp_path / "new", base, judged, settings=options).card
    assert card.levels == SCALE.levels
    assert card.temperature > 0
    judge = load_judge(tmp_path / "new", SCALE, SETTINGS)
    logits = label_logits(judge.judge, [row.token_ids for row in judge.encode(*judged.texts)])
    assert label_distribution(logits, card.temperature)[:, missing].mean() < 0.2
