"""Starts and ends Labellers while the application runs, one at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayError

from labelstream.actors.actor_names import labeller_name
from labelstream.actors.busy_meter import WorkReport
from labelstream.actors.model_pool import MODEL_LOAD_S, ModelPool
from labelstream.actors.remote import first_line
from labelstream.actors.replica_watch import ReplicaWatch, watched_labeller
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
        numbers: Of those that take work, in order.
    """

    wanted: int
    numbers: tuple[int, ...]

    @property
    def ready(self) -> int:
        """How many take work."""
        return len(self.numbers)


class _Loading(NamedTuple):
    """One that does not take work yet: its number, since when, and what it will say of itself."""

    number: int
    since: float
    description: Future[JudgeDescription]


class _Leaving(NamedTuple):
    """One that takes no more work: its number, and since when."""

    number: int
    since: float


class LabellerScaling:
    """Keeps the pool's Labellers at the number that the work asks for; ``look()`` now and then, from one thread.

    The first ones, up to ``labeller.replicas``, it never touches. What it starts has the lowest free number, and takes
    work once it has loaded the same model as the others. When there is too little to do, the highest number gets no new
    work, finishes what it has, and goes. One that is dead for good goes alone, and its number is free again. A call
    that comes too late fails, and whoever made it asks another Labeller.

    Args:
        settings: All settings.
        pool: Owns the actors, so they end with it.
        description: Who judges.
        watch: Looks after those that are started here; somebody else has it look.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        pool: ModelPool,
        description: JudgeDescription,
        watch: ReplicaWatch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._pool, self._description, self._clock = settings, pool, description, clock
        self._watch = watch
        self._rule = ScalingRule(settings.labeller)
        self._count = LabellerCount(settings.labeller.replicas, tuple(range(settings.labeller.replicas)))
        self._loading: _Loading | None = None
        self._leaving: _Leaving | None = None
        self._not_before = 0.0

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
            self._let_go_of_the_dead()
            if self._loading is not None:
                self._see_whether_it_has_loaded(self._loading)
            if self._leaving is not None:
                self._see_whether_it_can_go(self._leaving)
            if self._leaving is None:
                self._step(lag, records)
        return self._count

    def _step(self, lag: int | None, records: int | None) -> None:
        ready, loading = self._count.ready, self._loading is not None
        wanted = self._rule.wanted(self._work(lag, records), ready, loading=loading)
        self._count = self._count._replace(wanted=wanted)
        if wanted > ready + loading:
            self._start()
        elif wanted < ready + loading:
            self._end_one()

    def _work(self, lag: int | None, records: int | None) -> Work | None:
        if lag is None or records is None:
            return None
        labellers, numbers = self._pool.labellers, self._count.numbers
        asked = [labellers[number].report.remote() for number in numbers]
        try:
            reports: dict[int, WorkReport] = dict(zip(numbers, ray.get(asked, timeout=ASK_S), strict=True))
        except RayError:  # one of them is being restarted
            return None
        busy_s = sum(reports[number].busy_s for number in self._settings.labeller.for_stream(numbers))
        return Work(self._clock(), lag, records, busy_s, sum(one.requests for one in reports.values()))

    def _start(self) -> None:
        if self._clock() < self._not_before:
            return
        number = self._pool.free_number
        try:
            labeller = self._pool.add_labeller(number, patience_s=0)
        except (SettingsError, RayError) as error:
            self._give_up(number, first_line(error))
            return
        _log.info("%s is started", labeller_name(number))
        self._loading = _Loading(number, self._clock(), labeller.describe.remote().future())

    def _see_whether_it_has_loaded(self, loading: _Loading) -> None:
        number, since, description = loading
        if not description.done():
            if self._clock() - since >= MODEL_LOAD_S:
                self._refuse(number, f"it has not loaded its model within {MODEL_LOAD_S:g} s")
        elif (error := description.exception()) is not None:
            self._refuse(number, first_line(error))
        elif description.result() != self._description:
            self._refuse(number, "it holds another model; give all nodes the same folder")
        else:
            self._admit(number)

    def _admit(self, number: int) -> None:
        self._loading = None
        self._watch.add([watched_labeller(self._settings, number, self._pool.labellers[number])])
        self._count = self._count._replace(numbers=tuple(sorted((*self._count.numbers, number))))
        _log.info("%s takes work", labeller_name(number))

    def _refuse(self, number: int, reason: str) -> None:
        self._loading = None
        self._pool.end_labeller(number)
        self._give_up(number, reason)

    def _give_up(self, number: int, reason: str) -> None:
        self._not_before = self._clock() + AGAIN_S
        message = "%s cannot be used and is tried again in %g s: %s"
        _log.error(message, labeller_name(number), AGAIN_S, reason)

    def _end_one(self) -> None:
        """The one that loads is just ended; the others first come to their end."""
        if self._loading is not None:
            self._pool.end_labeller(self._loading.number)
            self._loading = None
            return
        number = self._count.numbers[-1]
        self._take_off_work(number)
        self._leaving = _Leaving(number, self._clock())
        _log.info("%s gets no more work", labeller_name(number))

    def _take_off_work(self, number: int) -> None:
        self._watch.remove(labeller_name(number))
        self._count = self._count._replace(numbers=tuple(one for one in self._count.numbers if one != number))

    def _see_whether_it_can_go(self, leaving: _Leaving) -> None:
        number, since = leaving
        waited_s = self._clock() - since
        silent = waited_s >= LEAVE_S + self._settings.labeller.answer_timeout_s
        if silent or (waited_s >= LEAVE_S and self._has_finished(self._pool.labellers[number])):
            self._leaving = None
            self._pool.end_labeller(number)
            _log.info("%s has ended", labeller_name(number))

    @staticmethod
    def _has_finished(labeller: Any) -> bool:
        try:
            report: WorkReport = ray.get(labeller.report.remote(), timeout=ASK_S)
        except GetTimeoutError:
            return False
        except RayError:  # it is dead, and what it had with it
            return True
        return report.under_way == 0

    def _let_go_of_the_dead(self) -> None:
        added = self._count.numbers[self._settings.labeller.replicas :]
        for number in added:
            if labeller_name(number) in self._watch.gone:
                self._take_off_work(number)
                self._pool.end_labeller(number)
                self._give_up(number, "it is dead and does not start again")
