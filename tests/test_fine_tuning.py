"""Tuning a tiny classifier and a tiny Llama: what they answer, what they learn, and what is left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judged import one_thread, split_judged, tiny_encoder
from models import tiny_llama
from peft import PeftModel
from scipy.special import log_softmax
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertModel,
    LlamaForCausalLM,
    TrainingArguments,
)

from labelstream.schemas.errors import ModelUnusable
from labelstream.schemas.model_folder import packaged_encoder
from labelstream.schemas.scale import LabelScale
from labelstream.training import fine_tuning
from labelstream.training.demo_labeller import tiny_random_labeller
from labelstream.training.examples import Examples, JudgedExamples, judged_examples
from labelstream.training.fine_tuning import FineTuneSettings, fine_tune, label_logits
from labelstream.training.judge_models import TrainableJudge, load_judge, save_judge
from labelstream.training.judgments import JudgedPairs

SCALE = LabelScale()
KINDS = ["classifier", "generative"]
SETTINGS = {
    "classifier": FineTuneSettings(epochs=6, learning_rate=5e-3, batch_size=16, max_tokens=128),
    "generative": FineTuneSettings(epochs=3, learning_rate=3e-3, batch_size=16, max_tokens=192),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    tiny_random_labeller(folder / "generative")
    return {"classifier": tiny_encoder(folder / "classifier"), "generative": folder / "generative"}


@pytest.fixture(scope="module")
def judged() -> tuple[JudgedPairs, JudgedPairs]:
    return split_judged()


def load(bases: dict[str, Path], kind: str, **changes: Any) -> tuple[TrainableJudge, FineTuneSettings]:
    settings = SETTINGS[kind].model_copy(update=changes)
    return load_judge(bases[kind], SCALE, settings), settings


def examples_of(trainable: TrainableJudge, judged: JudgedPairs) -> JudgedExamples:
    return judged_examples(trainable, judged, 3, rater_share=0.0, balance=0.0)


def loss_of(trainable: TrainableJudge, examples: Examples) -> float:
    log_probabilities = log_softmax(label_logits(trainable.judge, examples.token_ids), axis=1)
    return -float((examples.targets * log_probabilities).sum(axis=1).mean())


def looks(folder: Path) -> list[float]:
    """The validation loss at each look, as the last checkpoint has it."""
    states = [json.loads(path.read_text()) for path in folder.glob("checkpoints/*/trainer_state.json")]
    last = max(states, key=lambda state: state["global_step"])
    return [entry["eval_loss"] for entry in last["log_history"] if "eval_loss" in entry]


@pytest.mark.parametrize("kind", KINDS)
class TestAnswers:
    def test_logits_are_those_of_transformers_for_each_prompt_alone(
        self, bases: dict[str, Path], judged: tuple[JudgedPairs, JudgedPairs], kind: str, tmp_path: Path
    ):
        trainable, _ = load(bases, kind)
        ids = examples_of(trainable, judged[0]).examples.token_ids[:20]
        assert len({len(row) for row in ids}) > 5
        save_judge(trainable, tmp_path, merge=True)
        if kind == "generative":
            model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
        with torch.inference_mode():
            logits = [model(torch.tensor([row])).logits[0] for row in ids]
        if kind == "generative":
            logits = [row[-1][list(trainable.judge.label_token_ids or ())] for row in logits]
        expected = np.array([row.tolist() for row in logits])
        assert expected.std(axis=0).min() > 1e-3, "a model that always says the same would prove nothing"
        for batch_size in (1, 3, 64):
            found = label_logits(trainable.judge, ids, batch_size=batch_size)
            np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_no_prompts_have_no_answers(self, bases: dict[str, Path], kind: str):
        assert label_logits(load(bases, kind)[0].judge, []).shape == (0, 3)

    def test_the_loss_is_the_weighted_cross_entropy_to_the_wanted_distribution(
        self, bases: dict[str, Path], judged: tuple[JudgedPairs, JudgedPairs], kind: str, tmp_path: Path
    ):
        trainable, _ = load(bases, kind)
        token_ids = examples_of(trainable, judged[0]).examples.token_ids[:9]
        rng = np.random.default_rng(1)
        targets, weights = rng.dirichlet(np.ones(3), size=9), rng.uniform(0.1, 3, size=9)
        log_probabilities = log_softmax(label_logits(trainable.judge, token_ids), axis=1)
        expected = -(weights * (targets * log_probabilities).sum(axis=1)).sum() / weights.sum()
        examples = Examples(token_ids, targets, weights)
        assert self.trainer_loss(trainable, examples, tmp_path) == pytest.approx(expected, abs=1e-4)

    @staticmethod
    def trainer_loss(trainable: TrainableJudge, examples: Examples, folder: Path) -> float:
        arguments = TrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True)
        trainer = fine_tuning._JudgeTrainer(trainable.judge, args=arguments)
        batch = trainable.judge.collate([examples[i] for i in range(len(examples))])
        with torch.inference_mode():
            loss = trainer.compute_loss(trainable.judge.model, batch)
        assert isinstance(loss, torch.Tensor)
        return float(loss)


def test_a_causal_lm_is_asked_for_the_label_and_nothing_else(judged: tuple[JudgedPairs, JudgedPairs], tmp_path: Path):
    """Whatever it thinks of all other tokens, its answer and so its loss stay the same."""
    settings = FineTuneSettings(max_tokens=512)
    trainable = load_judge(tiny_llama(tmp_path), SCALE, settings)
    token_ids = examples_of(trainable, judged[0]).examples.token_ids[:4]
    before = label_logits(trainable.judge, token_ids)
    head, labels = (
        trainable.judge.model.get_output_embeddings().weight.data,
        list(trainable.judge.label_token_ids or ()),
    )
    others = torch.ones(len(head), dtype=torch.bool)
    others[labels] = False
    head[others] = torch.randn_like(head[others])
    np.testing.assert_array_equal(label_logits(trainable.judge, token_ids), before)
    head[labels[0]] += 1
    assert (label_logits(trainable.judge, token_ids)[:, 0] != before[:, 0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_gets_better_on_queries_that_it_has_not_seen(
    bases: dict[str, Path], judged: tuple[JudgedPairs, JudgedPairs], kind: str, tmp_path: Path
):
    trainable, settings = load(bases, kind)
    training, held_out = (examples_of(trainable, pairs).examples for pairs in judged)
    before = loss_of(trainable, held_out)
    steps = fine_tune(trainable.judge, training, held_out, settings, tmp_path)
    after, seen = loss_of(trainable, held_out), looks(tmp_path)
    shares = held_out.targets.mean(axis=0)
    prior = -float((shares * np.log(shares)).sum())
    assert after < min(before, prior) - 0.1, "it has learned more than how often each level comes"
    assert after == pytest.approx(min(seen), abs=1e-3), "the weights of the best look are kept"
    assert len(seen) > 4
    assert 0 < steps <= settings.epochs * np.ceil(len(training) / settings.batch_size)


def test_it_stops_when_it_gets_worse_and_goes_back_to_the_best(
    bases: dict[str, Path], judged: tuple[JudgedPairs, JudgedPairs], tmp_path: Path
):
    trainable, settings = load(bases, "classifier", patience=2, epochs=20.0)
    training, held_out = (examples_of(trainable, pairs).examples for pairs in judged)
    reversed_targets = Examples(training.token_ids, training.targets[:, ::-1].copy(), training.weights)
    steps = fine_tune(trainable.judge, reversed_targets, held_out, settings, tmp_path)
    seen = looks(tmp_path)
    assert steps < 10 * len(training) / settings.batch_size
    assert len(seen) == int(np.argmin(seen)) + 1 + settings.patience
    assert loss_of(trainable, held_out) == pytest.approx(min(seen), abs=1e-3)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_that_goes_on_sees_the_pairs_that_an_undisturbed_one_does(
    bases: dict[str, Path],
    judged: tuple[JudgedPairs, JudgedPairs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
):
    trainable, settings = load(bases, "classifier", batch_size=8, epochs=3.0, patience=100)
    training, held_out = (examples_of(trainable, pairs).examples for pairs in judged)
    few = Examples(training.token_ids[:64], training.targets[:64], training.weights[:64])
    compute_loss, batches, steps = fine_tuning._JudgeTrainer.compute_loss, [], 24

    def spy(trainer: Any, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        if model.training:
            if len(batches) == steps:
                raise KeyboardInterrupt
            batches.append(inputs["input_ids"].tolist())
        return compute_loss(trainer, model, inputs, *arguments, **options)

    monkeypatch.setattr(fine_tuning._JudgeTrainer, "compute_loss", spy)
    fine_tune(trainable.judge, few, held_out, settings, tmp_path / "undisturbed")
    undisturbed = list(batches)
    assert len(undisturbed) == steps
    assert undisturbed[:8] != undisturbed[8:16] != undisturbed[16:]

    batches.clear()
    steps = 8 * epoch - 2
    with pytest.raises(KeyboardInterrupt):
        fine_tune(load(bases, "classifier")[0].judge, few, held_out, settings, tmp_path / "killed")
    batches.clear()
    steps = 24
    fine_tune(load(bases, "classifier")[0].judge, few, held_out, settings, tmp_path / "killed")
    assert batches == undisturbed[8 * epoch - 4 :], "from the last look on, in the middle of the epoch"


def test_batches_that_are_added_up_are_one_batch(
    bases: dict[str, Path], judged: tuple[JudgedPairs, JudgedPairs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A Llama has no dropout, so the two must come to the same; but not where products are rounded to 16 bits."""
    monkeypatch.setattr(fine_tuning, "_multiplies_bfloat16", lambda: False)
    answers = []
    for batch_size, accumulate in ((24, 1), (8, 3)):
        trainable, settings = load(bases, "generative", batch_size=batch_size, accumulate=accumulate, epochs=1.0)
        training, held_out = (examples_of(trainable, pairs).examples for pairs in judged)
        few = Examples(training.token_ids[:48], training.targets[:48], training.weights[:48])
        assert fine_tune(trainable.judge, few, held_out, settings, tmp_path / str(batch_size)) == 2
        answers.append(label_logits(trainable.judge, held_out.token_ids[:10]))
    np.testing.assert_allclose(answers[0], answers[1], atol=5e-3)


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def moved(before: dict[str, torch.Tensor], model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}


def tune_a_little(trainable: TrainableJudge, settings: FineTuneSettings, judged: JudgedPairs, folder: Path) -> None:
    examples = examples_of(trainable, judged).examples
    few = Examples(examples.token_ids[:16], examples.targets[:16], examples.weights[:16])
    fine_tune(trainable.judge, few, few, settings.model_copy(update={"epochs": 2.0, "batch_size": 8}), folder)


@pytest.mark.parametrize("kind", KINDS)
class TestPartsOfAModel:
    def test_an_adapter_moves_and_its_base_does_not_and_merged_they_say_the_same(
        self, bases: dict[str, Path], judged: tuple[JudgedPairs, JudgedPairs], kind: str, tmp_path: Path
    ):
        trainable, settings = load(bases, kind, lora_rank=4, learning_rate=2e-2)
        token_ids = examples_of(trainable, judged[1]).examples.token_ids[:20]
        untuned = label_logits(trainable.judge, token_ids)
        before = weights_of(trainable.judge.model)
        tune_a_little(trainable, settings, judged[0], tmp_path / "work")
        changed = moved(before, trainable.judge.model)
        assert changed == {name for name in before if "lora_" in name or "modules_to_save" in name}
        tuned = label_logits(trainable.judge, token_ids)
        assert np.abs(tuned - untuned).max() > 0.05

        folders = {merge: tmp_path / str(merge) for merge in (False, True)}
        for merge, folder in folders.items():
            folder.mkdir()
            save_judge(trainable, folder, merge=merge)
        assert {path.suffix for path in folders[False].glob("*adapter*")} == {".json", ".safetensors"}
        assert not (folders[False] / "model.safetensors").exists()
        self.assert_adapter_says(folders[False], load(bases, kind)[0], token_ids, tuned)
        merged = load_judge(folders[True], SCALE, SETTINGS[kind])
        assert not isinstance(merged.judge.model, PeftModel)
        np.testing.assert_allclose(label_logits(merged.judge, token_ids), tuned, atol=1e-3)

    @staticmethod
    def assert_adapter_says(folder: Path, base: TrainableJudge, token_ids: list[list[int]], tuned: np.ndarray) -> None:
        together: Any = PeftModel.from_pretrained(base.judge.model, folder)
        found = label_logits(base.judge._replace(model=together), token_ids)
        np.testing.assert_allclose(found, tuned, atol=1e-3)

    def test_words_stay_where_they_are_and_the_rest_moves(
        self, bases: dict[str, Path], judged: tuple[JudgedPairs, JudgedPairs], kind: str, tmp_path: Path
    ):
        trainable, settings = load(bases, kind, freeze_words=True, learning_rate=2e-2)
        before = weights_of(trainable.judge.model)
        words = trainable.judge.model.get_input_embeddings().weight
        frozen = {name for name, parameter in trainable.judge.model.named_parameters() if parameter is words}
        tune_a_little(trainable, settings, judged[0], tmp_path)
        changed = moved(before, trainable.judge.model)
        assert len(frozen) == 1
        assert not frozen & changed
        assert any("attention" in name or "attn" in name for name in changed)

    def test_layers_are_cut_from_the_end(self, bases: dict[str, Path], kind: str):
        whole, cut = (load(bases, kind, layers=layers)[0].judge.model for layers in (0, 1))
        assert cut.config.num_hidden_layers == 1 < whole.config.num_hidden_layers
        kept = dict(cut.base_model.named_parameters())
        assert not [name for name in kept if ".1." in name]
        for name, parameter in whole.base_model.named_parameters():
            if name in kept and "pooler" not in name:
                assert torch.equal(parameter, kept[name]), name

    def test_more_layers_than_there_are_would_be_random(self, bases: dict[str, Path], kind: str):
        with pytest.raises(ModelUnusable, match=r"--layers 9: .* has \d"):
            load(bases, kind, layers=9)

    def test_without_dropout_it_says_the_same_in_training_and_else_it_does_not(
        self, bases: dict[str, Path], kind: str, judged: tuple[JudgedPairs, JudgedPairs]
    ):
        def twice(dropout: float | None) -> list[torch.Tensor]:
            trainable, _ = load(bases, kind, dropout=dropout)
            model = trainable.judge.model.train()
            batch = trainable.judge.collate([examples_of(trainable, judged[0]).examples[0]])
            return [trainable.judge.logits(model, batch) for _ in range(2)]

        assert torch.equal(*twice(0.0))
        assert not torch.equal(*twice(0.5))

    def test_the_seed_decides_new_weights_and_leaves_others_random(self, bases: dict[str, Path], kind: str):
        torch.manual_seed(3)
        expected = torch.rand(3)
        torch.manual_seed(3)
        models = [load(bases, kind, lora_rank=2, seed=seed)[0].judge.model for seed in (1, 1, 2)]
        assert torch.equal(torch.rand(3), expected)
        first = weights_of(models[0])
        assert moved(first, models[1]) == set()
        assert moved(first, models[2]) <= {name for name in first if "lora_A" in name or "classifier" in name}
        assert moved(first, models[2])


class TestBases:
    """What cannot be tuned is said so in a line."""

    def refused(self, folder: Path, match: str, **changes: Any) -> None:
        with pytest.raises(ModelUnusable, match=match):
            load_judge(folder, SCALE, FineTuneSettings(**changes))

    def test_no_folder(self, tmp_path: Path):
        self.refused(tmp_path / "nowhere", "--base .*nowhere")

    @pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"model_type": "no such model"}'])
    def test_no_model(self, tmp_path: Path, content: str):
        (tmp_path / "config.json").write_text(content)
        self.refused(tmp_path, "--base")

    def test_weights_that_are_no_safetensors(self, bases: dict[str, Path], tmp_path: Path):
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (tmp_path / name).write_bytes((bases["classifier"] / name).read_bytes())
        self.refused(tmp_path, "--base .*cannot load it")
        (tmp_path / "model.safetensors").write_bytes(b"not a model")
        self.refused(tmp_path, "--base .*cannot load it")
        (tmp_path / "model.safetensors").unlink()
        torch.save({}, tmp_path / "pytorch_model.bin")
        self.refused(tmp_path, "--base .*cannot load it")

    def test_weights_of_another_model(self, bases: dict[str, Path], tmp_path: Path):
        """transformers would begin with random ones."""
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (tmp_path / name).write_bytes((bases["classifier"] / name).read_bytes())
        (tmp_path / "model.safetensors").write_bytes((bases["generative"] / "model.safetensors").read_bytes())
        self.refused(tmp_path, "--base .*weights")

    def test_too_few_positions(self, bases: dict[str, Path]):
        self.refused(bases["classifier"], "--max-tokens 129: .*128", max_tokens=129)
        self.refused(bases["generative"], "--max-tokens 512: .*511", max_tokens=512)

    def test_a_tokenizer_without_separators(self, bases: dict[str, Path], tmp_path: Path):
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((bases["classifier"] / name).read_bytes())
        AutoTokenizer.from_pretrained(bases["generative"]).save_pretrained(tmp_path)
        self.refused(tmp_path, "cls_token")

    def test_the_packaged_encoder_can_be_tuned(self, judged: tuple[JudgedPairs, JudgedPairs]):
        trainable = load_judge(packaged_encoder(), SCALE, FineTuneSettings(max_tokens=512, layers=2))
        assert trainable.kind == "classifier"
        token_ids = examples_of(trainable, judged[0]).examples.token_ids[:3]
        assert np.isfinite(label_logits(trainable.judge, token_ids)).all()

    def test_an_encoder_without_token_types_can_be_tuned(
        self, bases: dict[str, Path], judged: tuple[JudgedPairs, JudgedPairs], tmp_path: Path
    ):
        tokenizer = AutoTokenizer.from_pretrained(bases["classifier"])
        tokenizer.save_pretrained(tmp_path / "base")
        config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, hidden_dim=32, n_layers=1, n_heads=2)
        DistilBertModel(config).save_pretrained(tmp_path / "base")
        trainable = load_judge(tmp_path / "base", SCALE, SETTINGS["classifier"])
        tune_a_little(trainable, SETTINGS["classifier"], judged[0], tmp_path / "work")
        token_ids = examples_of(trainable, judged[1]).examples.token_ids
        assert np.isfinite(label_logits(trainable.judge, token_ids)).all()


def test_a_classifier_that_is_saved_makes_nothing_of_token_types(bases: dict[str, Path], tmp_path: Path):
    trainable, _ = load(bases, "classifier")
    save_judge(trainable, tmp_path, merge=True)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    types = model.base_model.embeddings.token_type_embeddings.weight
    assert torch.equal(types[0], types[1])
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors"}
    assert model.config.id2label == dict(enumerate(SCALE.levels))


def test_a_generative_model_keeps_its_whole_vocabulary(bases: dict[str, Path], tmp_path: Path):
    trainable, _ = load(bases, "generative")
    save_judge(trainable, tmp_path, merge=True)
    saved, base = (
        LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (tmp_path, bases["generative"])
    )
    assert moved(weights_of(base), saved) == set()
