"""The Ray actor around the pair scorer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from labelstream.actors.actor_names import cross_encoder_name
from labelstream.actors.actor_process import log_as_an_actor
from labelstream.actors.busy_meter import BusyMeter, WorkReport
from labelstream.actors.heap import HeapTrimmer
from labelstream.actors.model_environment import model_environment
from labelstream.actors.pair_scorer import EncoderDescription, PairScorer, Scores
from labelstream.actors.priorities import STREAM_PRIORITY, is_request
from labelstream.actors.remote import CALLS_AT_ONCE, actor_options
from labelstream.actors.stepwise import StepwiseThread
from labelstream.schemas.settings import Settings


class CrossEncoderActor:
    """One replica of the cross-encoder. Of the calls that wait, the most urgent goes before the next forward pass.

    Start it with ``ray.remote(CrossEncoderActor).options(**cross_encoder_options(settings)).remote(settings)``.

    Args:
        settings: Where ``encoder`` matters.

    Raises:
        MissingDependency: No model is set and the packaged one is not installed.
        ModelUnusable: See ``PairScorer``.
    """

    def __init__(self, settings: Settings) -> None:
        log_as_an_actor(settings)
        self._scorer = PairScorer(settings.encoder, settings.scale)
        self._patience_s = settings.endpoint.deadline_s
        self._meter = BusyMeter()
        # One forward pass at a time already takes every core; ping and describe are answered beside it.
        self._worker = StepwiseThread("pair-scorer")
        self._trim_heap = HeapTrimmer()

    async def score(self, queries: Sequence[str], products: Sequence[str], priority: int = STREAM_PRIORITY) -> Scores:
        """Score pairs. A call that is cancelled takes no more of the model than its forward pass under way.

        Args:
            queries: Shape (pairs,).
            products: Rendered product texts; shape (pairs,).
            priority: Lower goes first.

        Returns:
            Scores in [0, 1]; float32, shape (pairs,), in the order of the pairs.

        Raises:
            ValueError: Different numbers of queries and products.
        """
        with self._meter.batch(is_request=is_request(priority)):
            steps = self._scorer.score_in_steps(queries, products)
            scores = await asyncio.wrap_future(self._worker.submit(steps, priority=priority))
            self._trim_heap()
            self._meter.count(pairs=len(queries))
        return scores

    async def describe(self) -> EncoderDescription:
        """Which encoder this is."""
        return self._scorer.describe()

    async def ping(self) -> bool:
        """Whether the model answers: its step under way has not taken longer than a request may."""
        return self._worker.step_s < self._patience_s

    async def report(self) -> WorkReport:
        """What it has done since it started."""
        return self._meter.report(answers=await self.ping())


def cross_encoder_options(settings: Settings, replica: int = 0) -> dict[str, Any]:
    """Ray's options for one ``CrossEncoderActor``.

    Args:
        settings: Where ``encoder`` and ``ray`` matter.
        replica: Its number, from 0.
    """
    encoder = settings.encoder
    # No cores of its own: it shares the machine with the labeller, which has its cores set aside.
    return actor_options(
        settings,
        cross_encoder_name(replica),
        num_gpus=encoder.gpus,
        max_concurrency=CALLS_AT_ONCE,
        runtime_env={"env_vars": model_environment(encoder)},
    )
