"""What a model says of judged pairs: how each kind is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labelstream.commands.scoring import scores_by, scores_of, stepped
from labelstream.console import progress_bar
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.actors.label_engine import LabelEngine
    from labelstream.schemas.judgements import Judgements
    from labelstream.training.features import EngagementHistory
    from labelstream.training.judgments import JudgedPairs

_PART = 256  # pairs that the bar counts at once


class Answers(NamedTuple):
    """What a model says of pairs.

    Attributes:
        probabilities: Shape (pairs, levels), or None of a model that only ranks.
        scores: What ranks, shape (pairs,), or None to rank by the expected score of the probabilities.
    """

    probabilities: Floats | None
    scores: Floats | None = None


def ask_labeller(judged: JudgedPairs, settings: Settings, model: str, adapter: str | None) -> Answers:
    """Ask the very engine that the stream uses."""
    from labelstream.actors.label_engine import LabelEngine
    from labelstream.schemas.model_folder import model_folder

    model_folder(model, setting="--labeller")  # an error later on would name a setting that nobody has set
    chosen = settings.labeller.model_copy(update={"model": model, "adapter": adapter})
    engine = LabelEngine(settings.model_copy(update={"labeller": chosen}))
    try:
        return Answers(_judged_in_parts(judged, engine))
    finally:
        engine.close()


def _judged_in_parts(judged: JudgedPairs, engine: LabelEngine) -> Floats:
    """Probabilities of all pairs, in their order; a bar tells how far it is."""
    import numpy as np

    # One query after the other, as the engine itself has them in a batch.
    order = sorted(range(len(judged)), key=lambda pair: (judged.queries[pair], pair))
    parts = [np.array(order[start : start + _PART]) for start in range(0, len(order), _PART)]
    answers = [engine.judge(*judged.select(part).texts) for part in parts]
    found: list[Judgements] = []
    with progress_bar() as bar:
        task = bar.add_task("pairs", total=len(judged), note="")
        for answer, part in zip(answers, parts, strict=True):
            found.append(answer.result())
            bar.advance(task, len(part))
    errors = [(part[i], error) for answer, part in zip(found, parts, strict=True) for i, error in answer.errors.items()]
    if errors:
        pair, error = min(errors, key=lambda one: int(one[0]))
        raise SettingsError(f"{len(errors)} pairs cannot be judged, the first is {judged.queries[pair]!r}: {error}")
    probabilities = np.concatenate([answer.probabilities for answer in found]).astype(float)
    return np.asarray(probabilities[np.argsort(np.concatenate(parts))])


def ask_cross_encoder(judged: JudgedPairs, settings: Settings, model: str) -> Answers:
    """Ask a cross-encoder or a bi-encoder; only the first gives probabilities."""
    from labelstream.actors.pair_scorer import PairScorer
    from labelstream.schemas.model_folder import model_folder

    if model != "packaged":
        model_folder(model, setting="--cross-encoder")
    chosen = settings.encoder.model_copy(update={"model": "" if model == "packaged" else model})
    scorer = PairScorer(chosen, settings.scale)
    if scorer.kind == "cross-encoder" and scorer.outputs == len(settings.scale.levels):
        return Answers(stepped(scorer.probabilities_in_steps(*judged.texts), scorer.passes(*judged.texts)))
    return Answers(None, scores_by(scorer, judged))


def ask_ranker(judged: JudgedPairs, products: Sequence[Product], settings: Settings, folder: Path) -> Answers:
    """Ask a ranker, with the features that it knows.

    Args:
        judged: The pairs.
        products: The whole catalogue, for the words' frequencies.
        settings: The encoder that gives the content feature, and the lake that knows the engagement so far.
        folder: Of a ranker, or of a version in the registry.

    Raises:
        ModelUnusable: No ranker is there.
        SettingsError: It wants engagement, and there is no lake, or none in it.
    """
    from labelstream.training.features import build_features
    from labelstream.training.lexical import LexicalIndex
    from labelstream.training.ranker import Ranker

    ranker = Ranker.load(folder)
    wanted = ranker.card.features
    scores = scores_of(judged, settings) if "cross_encoder_score" in wanted else None
    history = _history(judged, settings) if "pair_impressions" in wanted else None
    features = build_features(
        judged.queries, judged.products, LexicalIndex(products), cross_encoder_scores=scores, history=history
    )
    return Answers(None, ranker.score(features.only(wanted)).astype(float))


def carts_of(judged: JudgedPairs, settings: Settings) -> Floats:
    """Adds to cart of the pairs in the newest days of the lake; shape (pairs,).

    Raises:
        SettingsError: The lake has no engagement.
    """
    from labelstream.schemas.keys import normalise_query
    from labelstream.streaming.lake import Lake
    from labelstream.training.ranking_task import carts_in, newest_days

    queries = [normalise_query(query) for query in judged.queries]
    with Lake(settings.lake, read_only=True) as lake:
        snapshot = lake.snapshot
        window = newest_days(lake, snapshot, settings.retrain.window_days)
        return carts_in(lake, snapshot, window, queries, judged.product_ids)


def _history(judged: JudgedPairs, settings: Settings) -> EngagementHistory:
    """Engagement from before the window, as in training: what ATC is measured by reaches no feature."""
    from labelstream.streaming.lake import Lake
    from labelstream.training.ranking_data import TrainingSnapshot
    from labelstream.training.ranking_task import newest_days

    with Lake(settings.lake, read_only=True) as lake:
        snapshot = lake.snapshot
        first = newest_days(lake, snapshot, settings.retrain.window_days).first
        return TrainingSnapshot(lake, until=first, snapshot=snapshot).history(judged.queries, judged.product_ids)
