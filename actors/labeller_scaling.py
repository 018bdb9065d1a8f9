"""Starts and ends Labellers while the application runs, one at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayError

from labelstream.actors.busy_meter import WorkReport
from labelstream.actors.model_pool import MODEL_LOAD_S, ModelPool
from labelstream.actors.remote import first_line
from labelstream.actors.replica_watch import WatchedReplica, watch_interval_s, watched_labeller
from labelstream.actors.scaling_rule import ScalingRule, Work
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.settings import Settings

ASK_S = 2.0
# After a Labeller that could not be used: what ails it (another model folder, no memory) does not mend itself soon.
AGAIN_S = 300.0
# Time for all callers to hear that it takes no more work; the endpoint asks every few seconds.
LEAVE_S = 15.0

_log = logging.getLogger(__name__)


class LabellerCount(NamedTuple):
    """How many Labellers there are.

    Attributes:
        wanted: What the work asks for.
        ready: Those that take work: always the first ones, by their number.
    """

    wanted: int
    ready: int


class LabellerScaling:
    """Keeps the pool's Labellers at the number that the work asks for; ``look()`` now and then, from one thread.

    The first ones, up to ``labeller.replicas``, it never touches. What it starts has the next number, and takes work
    once it has loaded the same model as the others. It always ends the highest number: that one gets no new work,
    finishes what it has, and goes. A call that comes too late fails, and whoever made it asks another Labeller.

    Args:
        settings: All settings.
        pool: Owns the actors, so they end with it.
        description: Who judges.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        pool: ModelPool,
        description: JudgeDescription,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._pool, self._description, self._clock = settings, pool, description, clock
        self._rule = ScalingRule(settings.labeller)
        self._count = LabellerCount(settings.labeller.replicas, settings.labeller.replicas)
        self._loading: Future[JudgeDescription] | None = None
        self._changed_at = 0.0
        self._not_before = 0.0
        self._added: list[WatchedReplica] = []
        self._watch_at = 0.0

    @property
    def count(self) -> LabellerCount:
        """As of the last look; safe from any thread."""
        return self._count

    def look(self, lag: int | None, records: int | None) -> LabellerCount:
        """Look at the work once, and take a step if it is time for one.

        Args:
            lag: Records in Kafka that the lake does not have; None where that is not known, 0 without a stream.
            records: Records in the lake; None where that is not known.
        """
        if self._settings.labeller.most > self._settings.labeller.replicas:
            self._watch_added()
            if self._loading is not None:
                self._see_whether_it_has_loaded(self._loading)
            elif self._one_leaves:
                self._see_whether_it_can_go()
            if not self._one_leaves:
                self._step(lag, records)
        return self._count

    @property
    def _one_leaves(self) -> bool:
        return self._loading is None and len(self._pool.labellers) > self._count.ready

    def _step(self, lag: int | None, records: int | None) -> None:
        ready, loading = self._count.ready, self._loading is not None
        wanted = self._rule.wanted(self._work(lag, records), ready, loading=loading)
        self._count = LabellerCount(wanted, ready)
        if wanted > ready + loading:
            self._start()
        elif wanted < ready + loading:
            self._end_last()

    def _work(self, lag: int | None, records: int | None) -> Work | None:
        if lag is None or records is None:
            return None
        asked = [labeller.report.remote() for labeller in self._pool.labellers[: self._count.ready]]
        try:
            reports: list[WorkReport] = ray.get(asked, timeout=ASK_S)
        except RayError:  # one of them is being restarted
            return None
        busy_s, requests = sum(one.busy_s for one in reports), sum(one.requests for one in reports)
        return Work(self._clock(), lag, records, busy_s, requests)

    def _start(self) -> None:
        if self._clock() < self._not_before:
            return
        try:
            labeller = self._pool.add_labeller(patience_s=0)
        except (SettingsError, RayError) as error:
            self._give_up(first_line(error))
            return
        _log.info("labeller-%d is started", len(self._pool.labellers) - 1)
        self._loading, self._changed_at = labeller.describe.remote().future(), self._clock()

    def _see_whether_it_has_loaded(self, description: Future[JudgeDescription]) -> None:
        if not description.done():
            if self._clock() - self._changed_at >= MODEL_LOAD_S:
                self._refuse(f"it has not loaded its model within {MODEL_LOAD_S:g} s")
        elif (error := description.exception()) is not None:
            self._refuse(first_line(error))
        elif description.result() != self._description:
            self._refuse("it holds another model; give all nodes the same folder")
        else:
            self._admit()

    def _admit(self) -> None:
        self._loading, index = None, self._count.ready
        self._added.append(watched_labeller(self._settings, index, self._pool.labellers[index]))
        self._count = self._count._replace(ready=index + 1)
        _log.info("labeller-%d takes work", index)

    def _refuse(self, reason: str) -> None:
        self._loading = None
        self._pool.end_labeller()
        self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        self._not_before = self._clock() + AGAIN_S
        message = "labeller-%d cannot be used and is tried again in %g s: %s"
        _log.error(message, len(self._pool.labellers), AGAIN_S, reason)

    def _end_last(self) -> None:
        """The one that loads is just ended; the others first come to their end."""
        if self._loading is not None:
            self._loading = None
            self._pool.end_labeller()
            return
        self._added.pop()
        self._count, self._changed_at = self._count._replace(ready=self._count.ready - 1), self._clock()
        _log.info("labeller-%d gets no more work", self._count.ready)

    def _see_whether_it_can_go(self) -> None:
        waited_s = self._clock() - self._changed_at
        silent = waited_s >= LEAVE_S + self._settings.labeller.answer_timeout_s
        if silent or (waited_s >= LEAVE_S and self._has_finished(self._pool.labellers[-1])):
            self._pool.end_labeller()
            _log.info("labeller-%d has ended", len(self._pool.labellers))

    @staticmethod
    def _has_finished(labeller: Any) -> bool:
        try:
            report: WorkReport = ray.get(labeller.report.remote(), timeout=ASK_S)
        except GetTimeoutError:
            return False
        except RayError:  # it is dead, and what it had with it
            return True
        return report.under_way == 0

    def _watch_added(self) -> None:
        """Nobody else looks after those that it has started."""
        if self._clock() < self._watch_at:
            return
        self._watch_at = self._clock() + watch_interval_s(self._settings.labeller.answer_timeout_s)
        for number, replica in enumerate(self._added):
            if not replica.look(self._settings.ray.namespace):
                self._lose(self._settings.labeller.replicas + number)
                return

    def _lose(self, index: int) -> None:
        """One is dead for good: those that take work are the first ones, so the ones above it go too."""
        self._loading = None
        while len(self._pool.labellers) > index:
            self._pool.end_labeller()
        del self._added[index - self._settings.labeller.replicas :]
        self._count = self._count._replace(ready=index)
        self._give_up("it is dead and does not start again")
