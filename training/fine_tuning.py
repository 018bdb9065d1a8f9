"""Supervised fine-tuning of a judge, generative or classifier: one loss, one loop, the transformers Trainer's."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from labelstream.schemas.scale import Floats

if TYPE_CHECKING:
    from labelstream.training.examples import Examples

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
_LOOKS_AN_EPOCH = 2
_STEPS_BETWEEN_LOOKS = 500  # at most; a run that is killed loses no more


class FineTuneSettings(BaseModel):
    """How to fine-tune; every figure is in the model's card afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: float = Field(default=3.0, gt=0, description="Passes over the training pairs at most.")
    learning_rate: float = Field(default=5e-5, gt=0, description="Peak of the linear schedule.")
    batch_size: int = Field(default=32, ge=1, description="Pairs of one step.")
    warm_up_share: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps before the peak.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay.")
    balance: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Class weights: 0 for none, 1 for inverse class frequency, between for its power.",
    )
    patience: int = Field(default=4, ge=1, description="Looks without a better validation loss before it stops.")
    accumulate: int = Field(default=1, ge=1, description="Batches whose gradients are added up to one step.")
    held_out: float = Field(
        default=0.15, gt=0, lt=1, description="Share of the queries that choose the best step and the temperature."
    )
    rater_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of the single raters' votes in what is to be answered."
    )
    max_tokens: int = Field(default=128, ge=16, le=131_072, description="Longest input; products are shortened to fit.")
    chat_template: bool = Field(default=False, description="Wrap the prompt in the model's chat template.")
    weak_pairs: int = Field(default=0, ge=0, description="Pairs that a teacher labels; 0 for none.")
    repeat_judged: int = Field(default=2, ge=1, description="Times that judged pairs come beside weak ones once.")
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Share of what the layers say that is left out; None as the base has it."
    )
    freeze_words: bool = Field(default=False, description="Keep the vectors of the words as the base has them.")
    layers: int = Field(default=0, ge=0, description="Keep only so many first layers of the base; 0 for all.")
    lora_rank: int = Field(default=0, ge=0, description="Rank of a LoRA adapter; 0 tunes every weight.")
    seed: int = Field(default=1, ge=0, description="Of the order of the pairs and of new weights.")


class Judge(NamedTuple):
    """A model that is being tuned, and how its answer is read.

    Attributes:
        model: Causal LM, or sequence classifier with one output a level.
        label_token_ids: Of a causal LM: the token of each level; None for a classifier.
        pad_token_id: Fills up shorter prompts.
    """

    model: PreTrainedModel
    label_token_ids: tuple[int, ...] | None
    pad_token_id: int

    def collate(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Make a batch: a causal LM answers at the last position, so its prompts are filled up in front."""
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), width), self.pad_token_id)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            length = len(row["input_ids"])
            place = slice(width - length, width) if self.label_token_ids else slice(0, length)
            ids[number, place] = torch.tensor(row["input_ids"])
            mask[number, place] = 1
        batch = {"input_ids": ids, "attention_mask": mask}
        for name in ("target", "weight"):
            batch[name] = torch.tensor(np.array([row[name] for row in rows]), dtype=torch.float32)
        return batch

    def logits(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The answer that serving reads: logits of the levels and nothing else; shape (pairs, levels).

        Args:
            model: ``self.model``, or what the Trainer has wrapped it in.
            batch: Made by ``collate``.
        """
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        if self.label_token_ids is None:
            answer: Tensor = model(**inputs, token_type_ids=torch.zeros_like(batch["input_ids"])).logits
            return answer.float()
        inputs["position_ids"] = (batch["attention_mask"].cumsum(dim=-1) - 1).clamp(min=0)
        last: Tensor = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        return last[:, list(self.label_token_ids)].float()


class _OrderOfEpoch(LengthGroupedSampler):
    """Pairs of like length together, in an order that follows from seed and epoch, also where a killed run goes on."""

    def __init__(self, batch_size: int, dataset: Dataset[Any], seed: int) -> None:
        super().__init__(batch_size, dataset)
        self._seed = seed

    def set_epoch(self, epoch: int) -> None:
        """The Trainer tells it before each one. The first one's order follows from the Trainer's own seed."""
        self.generator = torch.Generator().manual_seed(self._seed + epoch) if epoch else None


class _JudgeTrainer(Trainer):
    """The Trainer with our loss: cross-entropy to the wanted distribution, over the levels alone."""

    def __init__(self, judge: Judge, **arguments: Any) -> None:
        super().__init__(model=judge.model, data_collator=judge.collate, **arguments)
        self._judge = judge
        self.model_accepts_loss_kwargs = False  # our loss is a mean already

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> _OrderOfEpoch:
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return _OrderOfEpoch(batch, cast(Dataset[Any], train_dataset or self.train_dataset), self.args.seed)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002 - the Trainer's signature
    ) -> Tensor | tuple[Tensor, Any]:
        logits = self._judge.logits(model, inputs)
        losses = nn.functional.cross_entropy(logits, inputs["target"], reduction="none")
        loss = (losses * inputs["weight"]).sum() / inputs["weight"].sum()
        return (loss, {"logits": logits}) if return_outputs else loss


def fine_tune(judge: Judge, training: Examples, validation: Examples, settings: FineTuneSettings, folder: Path) -> int:
    """Tune in place, keep the weights of the least validation loss, and go on from the last checkpoint if there is one.

    Args:
        judge: On the CPU or wherever the Trainer puts it.
        training: At least one pair.
        validation: Pairs of other queries.
        settings: How.
        folder: For checkpoints; not removed.

    Returns:
        The number of steps done in all.
    """
    in_epoch = len(training) / (settings.batch_size * settings.accumulate)
    look = max(1, min(round(in_epoch / _LOOKS_AN_EPOCH), _STEPS_BETWEEN_LOOKS))
    arguments = TrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        per_device_eval_batch_size=4 * settings.batch_size,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warm_up_share * settings.epochs * in_epoch),
        weight_decay=settings.weight_decay,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=look,
        save_steps=look,
        logging_steps=look,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        label_names=["target"],
        prediction_loss_only=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        bf16=_multiplies_bfloat16(),
        seed=settings.seed,
        report_to="none",
        restore_callback_states_from_checkpoint=True,  # so patience goes on counting where it was
    )
    trainer = _JudgeTrainer(
        judge,
        args=arguments,
        train_dataset=cast(Dataset[Any], training),
        eval_dataset=cast(Dataset[Any], validation),
        callbacks=[EarlyStoppingCallback(settings.patience)],
    )
    checkpoint = _last_whole_checkpoint(folder / CHECKPOINTS)
    if checkpoint:
        logger.warning("going on from %s", Path(checkpoint).name)
    with redirect_stdout(sys.stderr):  # standard output is for results
        trainer.train(resume_from_checkpoint=checkpoint)
    # It leaves the model rounding to bfloat16; what is measured and calibrated next is to be exact.
    trainer.accelerator.unwrap_model(judge.model, keep_fp32_wrapper=False)
    return int(trainer.state.global_step)


def _multiplies_bfloat16() -> bool:
    """Whether the hardware does so itself; the weights stay float32 (mixed precision), only the products are short."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _last_whole_checkpoint(folder: Path) -> str | None:
    """The Trainer writes a checkpoint in place, its state last: one that has none is what a kill left."""
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        try:
            json.loads((checkpoint / TRAINER_STATE_NAME).read_text())
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
    return get_last_checkpoint(folder) if folder.is_dir() else None  # type: ignore[no-untyped-call]


@torch.inference_mode()
def label_logits(judge: Judge, token_ids: Sequence[list[int]], *, batch_size: int = 64) -> Floats:
    """Ask a judge as it stands, sorted by length.

    Returns:
        Logits of the levels; shape (prompts, levels), in the order of the prompts.
    """
    judge.model.train(mode=False)
    levels = len(judge.label_token_ids) if judge.label_token_ids else int(judge.model.config.num_labels or 0)
    found = np.empty((len(token_ids), levels))
    order = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = judge.collate([{"input_ids": token_ids[i], "target": 0.0, "weight": 0.0} for i in chosen])
        on_device = {name: value.to(judge.model.device) for name, value in batch.items()}
        found[chosen] = judge.logits(judge.model, on_device).cpu().numpy()
    return found
