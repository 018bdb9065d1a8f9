"""How the commands have pairs scored: with a bar, because it takes minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from labelstream.console import progress_bar
from labelstream.schemas.scale import Floats
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.actors.pair_scorer import PairScorer
    from labelstream.actors.stepwise import Steps
    from labelstream.training.judgments import JudgedPairs

Answer = TypeVar("Answer")


def scores_of(judged: JudgedPairs, settings: Settings) -> Floats:
    """Scores of the encoder that the settings name, or of the packaged one; shape (pairs,)."""
    from labelstream.actors.pair_scorer import PairScorer

    return scores_by(PairScorer(settings.encoder, settings.scale), judged)


def scores_by(scorer: PairScorer, judged: JudgedPairs) -> Floats:
    """The same, by a scorer that is loaded already."""
    return stepped(scorer.score_in_steps(*judged.texts), scorer.passes(*judged.texts)).astype(float)


def stepped(steps: Steps[Answer], total: int) -> Answer:
    """Go through steps, with a bar.

    Args:
        steps: Forward passes of a scorer.
        total: How many.
    """
    from labelstream.actors.stepwise import all_steps

    with progress_bar() as bar:
        task = bar.add_task("forward passes", total=total, note="")
        return all_steps(steps, lambda: bar.advance(task))
