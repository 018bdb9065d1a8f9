"""From human judgements to a judge that the Labeller or the CrossEncoder loads."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from scipy.special import log_softmax

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.model_card import ModelCard, make_readable, write_card
from labelstream.schemas.scale import LabelScale, label_distribution
from labelstream.training.calibration import fit_temperature
from labelstream.training.durable_files import sync, sync_tree
from labelstream.training.evaluation import evaluate
from labelstream.training.examples import JudgedExamples, judged_examples, weak_examples
from labelstream.training.fine_tuning import FineTuneSettings, fine_tune, label_logits
from labelstream.training.judge_models import TrainableJudge, load_judge, save_judge
from labelstream.training.judgments import JudgedPairs
from labelstream.training.splits import query_holdouts
from labelstream.training.teacher_pairs import kept_pairs
from labelstream.training.unfinished import unfinished
from labelstream.training.weak_pairs import WeakPairs

Weaken = Callable[[JudgedPairs], WeakPairs]

_WEAK_PAIRS = "weak-pairs.parquet"
_RESAMPLES = 200


class TrainedJudge(NamedTuple):
    """What came of it.

    Attributes:
        card: As it lies beside the model; its metrics are those on the held-out queries.
        seconds: Since this call began; a resumed run has done more.
        left_out: Pairs whose query leaves no room for a product.
    """

    card: ModelCard
    seconds: float
    left_out: int


def train_judge(
    judged: JudgedPairs,
    out: Path,
    *,
    base: Path,
    scale: LabelScale,
    settings: FineTuneSettings,
    weaken: Weaken | None = None,
    weak_source: str = "teacher",
    merge: bool = True,
) -> TrainedJudge:
    """Fine-tune a base on judgements, calibrate it and save it. A run that was killed goes on where it was.

    The held-out queries stop the training, choose its best step and give the temperature, so the metrics in the
    card are a little too good: ``labelstream evaluate`` on other judgements tells more.

    Args:
        judged: At least two queries.
        out: The new model's folder; it appears whole or not at all.
        base: Causal LM or encoder.
        scale: Levels of the judgements.
        settings: How to tune; the same judgements, base and settings give the same model.
        weaken: Makes further pairs from those that are trained on; never sees what is held out. Pairs of queries that
            are held out are left out of what it gives.
        weak_source: What ``weaken`` depends on beside these; a run that was killed goes on only where it is the same.
        merge: Work a LoRA adapter into its base.

    Raises:
        ModelUnusable: The base cannot be tuned.
        SettingsError: The output exists, another run writes it, or the judgements are too few.
    """
    begun = time.monotonic()
    if not (merge or settings.lora_rank):
        raise SettingsError("--adapter-only: there is no adapter without --lora-rank; set one, or leave the option out")
    with unfinished(out, _identity(judged, base, scale, settings, weak=weak_source if weaken else "")) as work:
        trainable = load_judge(base, scale, settings)
        if not merge and trainable.kind == "classifier":
            raise SettingsError("--adapter-only: vLLM takes no adapter for a classifier; leave the option out")
        first, second = next(query_holdouts(judged.queries, share=settings.held_out, seed=settings.seed))
        training, held_out = _encoded(trainable, judged.select(first), judged.select(second), scale, settings)
        examples = training.examples
        if weaken is not None:
            # Kept, so that a run which was cut off need not make them again.
            weak = kept_pairs(work / _WEAK_PAIRS, scale, {}, lambda: weaken(judged.select(first)))
            weak = _without(weak, [judged.queries[pair] for pair in second])
            examples = examples.joined(weak_examples(trainable, weak), times=settings.repeat_judged)
        steps = fine_tune(trainable.judge, examples, held_out.examples, settings, work)
        card = _card(trainable, held_out, scale, base)
        used = {**settings.model_dump(), "judged_pairs": len(training.judged), "pairs": len(examples), "steps": steps}
        card = card.model_copy(update={"training": used})
        _publish(trainable, card, work / "model", out, merge=merge)
    return TrainedJudge(card, time.monotonic() - begun, training.left_out + held_out.left_out)


def _encoded(
    trainable: TrainableJudge, first: JudgedPairs, second: JudgedPairs, scale: LabelScale, settings: FineTuneSettings
) -> tuple[JudgedExamples, JudgedExamples]:
    """Pairs to train on, and pairs of other queries; the latter are not weighted, so that they measure."""
    levels, share = len(scale.levels), settings.rater_share
    training = judged_examples(trainable, first, levels, rater_share=share, balance=settings.balance)
    held_out = judged_examples(trainable, second, levels, rater_share=share, balance=0.0)
    if not (len(training.examples) and len(held_out.examples)):
        raise SettingsError(
            f"--max-tokens {settings.max_tokens}: the queries leave no room for a product; allow more tokens"
        )
    return training, held_out


def _card(trainable: TrainableJudge, held_out: JudgedExamples, scale: LabelScale, base: Path) -> ModelCard:
    """Calibrate and measure on the held-out queries."""
    log_probabilities = log_softmax(label_logits(trainable.judge, held_out.examples.token_ids), axis=1)
    temperature = fit_temperature(log_probabilities, held_out.examples.targets)
    distribution = label_distribution(log_probabilities, temperature)
    measured = evaluate(held_out.judged, distribution, scale, resamples=_RESAMPLES).metrics
    labels: dict[str, Any] = measured["labels"]
    chosen = {name: value["value"] for name, value in (labels | measured["ranking"]).items() if _is_measure(value)}
    return ModelCard(
        levels=scale.levels,
        temperature=temperature,
        prompt_version=trainable.prompt_version,
        max_tokens=trainable.max_tokens,
        kind=trainable.kind,
        base=base.name,
        trained_at=datetime.now(UTC),
        metrics={"held_out_pairs": len(held_out.judged), **chosen},
    )


def _is_measure(value: Any) -> bool:
    return isinstance(value, dict) and set(value) >= {"value", "low", "high"}


def _identity(
    judged: JudgedPairs, base: Path, scale: LabelScale, settings: FineTuneSettings, *, weak: str
) -> dict[str, str]:
    """What a run that was killed must have begun with, so that this one may go on with it."""
    said = [] if judged.rater_levels is None else judged.rater_levels.tolist()
    asked = [*judged.texts, judged.product_ids]
    pairs = json.dumps([*asked, judged.ratings.tolist(), judged.levels.tolist(), said])
    return {
        "judgements": hashlib.sha256(pairs.encode()).hexdigest(),
        "base": str(base.resolve()),
        "scale": scale.version,
        "settings": settings.model_dump_json(),
        "weak": weak,
    }


def _without(weak: WeakPairs, queries: Sequence[str]) -> WeakPairs:
    """The pairs of other queries than these: what is held out is to be new in every way."""
    known = {normalise_query(query) for query in queries}
    kept = [pair for pair, query in enumerate(weak.queries) if normalise_query(query) not in known]
    return WeakPairs(
        tuple(weak.queries[pair] for pair in kept),
        tuple(weak.products[pair] for pair in kept),
        weak.distributions[kept],
    )


def _publish(trainable: TrainableJudge, card: ModelCard, whole: Path, out: Path, *, merge: bool) -> None:
    """Write everything, then rename: nobody ever sees half a model, not even after a power cut."""
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    save_judge(trainable, whole, merge=merge)
    write_card(whole, card)
    make_readable(whole)
    sync_tree(whole)
    whole.rename(out)
    sync(out.parent)
