"""What a model says of judged pairs: how each kind is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.judgements import Judgements
from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.training.features import EngagementHistory
    from labelstream.training.judgments import JudgedPairs


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

    chosen = settings.labeller.model_copy(update={"model": model, "adapter": adapter})
    engine = LabelEngine(settings.model_copy(update={"labeller": chosen}))
    try:
        answer: Judgements = engine.judge(*judged.texts).result()
    finally:
        engine.close()
    if answer.errors:
        index, error = next(iter(answer.errors.items()))
        raise SettingsError(
            f"{len(answer.errors)} pairs cannot be judged, the first is {judged.queries[index]!r}: {error}"
        )
    return Answers(answer.probabilities.astype(float))


def ask_cross_encoder(judged: JudgedPairs, settings: Settings, model: str) -> Answers:
    """Ask a cross-encoder or a bi-encoder; only the first gives probabilities."""
    from labelstream.actors.pair_scorer import PairScorer

    chosen = settings.encoder.model_copy(update={"model": "" if model == "packaged" else model})
    scorer = PairScorer(chosen, settings.scale)
    if scorer.kind == "cross-encoder" and scorer.outputs == len(settings.scale.levels):
        return Answers(scorer.probabilities(*judged.texts))
    return Answers(None, scorer.score(*judged.texts).astype(float))


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
    from labelstream.actors.pair_scorer import PairScorer
    from labelstream.training.features import build_features
    from labelstream.training.lexical import LexicalIndex
    from labelstream.training.ranker import Ranker

    ranker = Ranker.load(folder)
    wanted = ranker.card.features
    scores = (
        PairScorer(settings.encoder, settings.scale).score(*judged.texts) if "cross_encoder_score" in wanted else None
    )
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
