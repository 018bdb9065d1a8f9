"""The Ray actor around the judge."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from labelstream.actors.actor_names import labeller_name
from labelstream.actors.actor_process import log_as_an_actor
from labelstream.actors.busy_meter import BusyMeter, WorkReport
from labelstream.actors.heap import HeapTrimmer
from labelstream.actors.label_engine import LabelEngine
from labelstream.actors.priorities import STREAM_PRIORITY, is_request
from labelstream.actors.remote import CALLS_AT_ONCE, actor_options
from labelstream.actors.threads import leave_cores_to_requests
from labelstream.actors.vllm_engine import engine_environment
from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.settings import Settings

WARM_UP_PAIRS = 64

_log = logging.getLogger(__name__)


class Labeller:
    """One replica of the labeller model. Many ``judge`` calls run at once: the engine mixes their prompts.

    Start it with ``ray.remote(Labeller).options(**labeller_options(settings)).remote(settings)``.

    Args:
        settings: See ``LabelEngine``.
        number: Of this replica, from 0. Where some are reserved for requests, the others leave the cores to them.

    Raises:
        MissingDependency: vLLM is not installed.
        ModelUnusable: See ``LabelEngine``.
    """

    def __init__(self, settings: Settings, number: int = 0) -> None:
        log_as_an_actor(settings)
        labeller = settings.labeller
        if labeller.reserved and not labeller.gpus and not labeller.is_reserved(number):
            leave_cores_to_requests()  # before there are threads that compute
        self._engine = LabelEngine(settings, on_failure=_leave)
        # The first steps set up much that later ones find ready; better now than while somebody waits.
        self._engine.judge(["warm up"] * WARM_UP_PAIRS, [f"Title: {n}\n" for n in range(WARM_UP_PAIRS)]).result()
        self._patience_s = settings.endpoint.deadline_s
        self._meter = BusyMeter()
        self._trim_heap = HeapTrimmer()

    async def judge(
        self, queries: Sequence[str], products: Sequence[str], priority: int = STREAM_PRIORITY
    ) -> Judgements:
        """Judge a batch of pairs. Cancelling it spares the prompts that are not yet inside the engine.

        Args:
            queries: Shape (pairs,).
            products: Rendered product texts; shape (pairs,).
            priority: Lower goes first.

        Returns:
            Judgements in the order of the pairs.

        Raises:
            ModelUnavailable: The engine died; the actor is about to be restarted.
            ValueError: Different numbers of queries and products.
        """
        with self._meter.batch(is_request=is_request(priority)):
            # Making tokens takes a thread, so that a big batch does not hold up a small urgent one. No thread can be
            # cancelled, so it does not go on to the engine by itself: a call that was cancelled ends here.
            encoded = await asyncio.to_thread(self._engine.encode, queries, products)
            judgements = await asyncio.wrap_future(self._engine.submit(encoded, priority))
            self._trim_heap()
            self._meter.count(pairs=len(queries), errors=len(judgements.errors))
        return judgements

    async def describe(self) -> JudgeDescription:
        """Which judge this is."""
        return self._engine.describe()

    async def ping(self) -> bool:
        """Whether the engine answers: it lives, and its step under way has not taken longer than a request may."""
        return self._engine.healthy and self._engine.step_s < self._patience_s

    async def report(self) -> WorkReport:
        """What it has done since it started."""
        return self._meter.report(answers=await self.ping())


def _leave(error: Exception) -> None:
    """End the process, so that Ray starts the actor afresh; Ray's own exit would count as intended."""
    _log.critical("the labeller leaves for a restart: %s", error)
    os._exit(1)


def labeller_options(settings: Settings, replica: int = 0) -> dict[str, Any]:
    """Ray's options for one ``Labeller`` actor.

    Args:
        settings: Where ``labeller`` and ``ray`` matter.
        replica: Its number, from 0.
    """
    labeller = settings.labeller
    return actor_options(
        settings,
        labeller_name(replica),
        num_gpus=labeller.gpus,
        num_cpus=labeller.cpus,
        max_concurrency=CALLS_AT_ONCE,
        runtime_env={"env_vars": engine_environment(labeller)},
    )
