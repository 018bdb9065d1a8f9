"""Watches over the model actors: those that hang are restarted, those that are dead for good are told."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Self

import ray
from ray.exceptions import RayActorError

from labelstream.actors.actor_names import cross_encoder_name, labeller_name, ranker_name
from labelstream.actors.model_pool import ModelPool
from labelstream.actors.priorities import REQUEST_PRIORITY
from labelstream.schemas.settings import Settings

# Questions in the time after which a replica counts as hanging, and seconds between two of them at most.
_QUESTIONS, _LONGEST_INTERVAL_S = 10, 30.0
# Among those that wait for an answer: behind a full stream the models would look dead.
_QUESTION = ["is it alive"], ["Title: it\n"], REQUEST_PRIORITY

_log = logging.getLogger(__name__)


class WatchedReplica:
    """One actor, and the small question that it is asked.

    Args:
        name: Under which it can be found.
        actor: Its handle.
        answer_timeout_s: It is restarted when it owes an answer for longer.
        method: What it is asked: a real answer, because an actor may well answer while its model hangs.
        arguments: Of the method.
    """

    def __init__(self, name: str, actor: Any, answer_timeout_s: float, method: str, *arguments: Any) -> None:
        self.name = name
        self._actor, self._answer_timeout_s = actor, answer_timeout_s
        self._method, self._arguments = method, arguments
        self._answer: Future[Any] | None = None
        self._asked_at, self._killed = 0.0, False

    def look(self, namespace: str) -> bool:
        """Ask again, unless an answer is owed; that of the last time says how things are.

        Returns:
            False if the actor is dead and will not be restarted.
        """
        if self._answer is not None and not self._answer.done():
            self._restart_if_silent()
            return True
        if self._answer is not None and self._is_gone(self._answer.exception(), namespace):
            return False
        self._asked_at, self._killed = time.monotonic(), False
        self._answer = getattr(self._actor, self._method).remote(*self._arguments).future()
        return True

    def _is_gone(self, error: BaseException | None, namespace: str) -> bool:
        """Ray restarts what dies, but not what fails in its constructor, nor what was killed for good."""
        if not isinstance(error, RayActorError):
            return False
        return bool(error.actor_init_failed) or not _is_there(self.name, namespace)

    def _restart_if_silent(self) -> None:
        """Once for each question: while it starts, Ray has its answers fail within seconds."""
        if not self._killed and time.monotonic() - self._asked_at >= self._answer_timeout_s:
            _log.warning("%s has not answered for %g s and is restarted", self.name, self._answer_timeout_s)
            self._killed = True
            ray.kill(self._actor, no_restart=False)


class ReplicaWatch:
    """The one place that knows which model actors live; ``look()`` now and then, from one thread.

    Args:
        namespace: Of their names.
        interval_s: Seconds from one look at them to the next, at least.
    """

    def __init__(self, namespace: str, interval_s: float) -> None:
        self._namespace, self._interval_s = namespace, interval_s
        self._replicas: dict[str, WatchedReplica] = {}
        self._gone: frozenset[str] = frozenset()
        self._not_before = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """A watch over nobody yet, as often as the settings need it."""
        patience_s = min(settings.labeller.answer_timeout_s, settings.encoder.answer_timeout_s)
        return cls(settings.ray.namespace, min(patience_s / _QUESTIONS, _LONGEST_INTERVAL_S))

    @property
    def gone(self) -> frozenset[str]:
        """Who is dead and will not be restarted; safe from any thread."""
        return self._gone

    def add(self, replicas: Iterable[WatchedReplica]) -> None:
        """From now on look after these too. Their models are loaded: what loads cannot answer."""
        self._replicas |= {replica.name: replica for replica in replicas}

    def remove(self, name: str) -> None:
        """Look after it no longer; its name may come back with another actor."""
        del self._replicas[name]
        self._gone -= {name}

    def look(self) -> None:
        """Look at all of them, if it is time."""
        if time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + self._interval_s
        for name, replica in self._replicas.items():
            if name not in self._gone and self._is_gone(replica):
                _log.error("%s is dead and does not start again", name)
                self._gone |= {name}

    def _is_gone(self, replica: WatchedReplica) -> bool:
        try:
            return not replica.look(self._namespace)
        except Exception:  # a watch must not end because of what it sees
            _log.exception("%s cannot be looked at", replica.name)
            return False


def watched_labeller(settings: Settings, number: int, actor: Any) -> WatchedReplica:
    """A Labeller, and the pair that it is asked to judge."""
    return WatchedReplica(labeller_name(number), actor, settings.labeller.answer_timeout_s, "judge", *_QUESTION)


def watched_pool(settings: Settings, pool: ModelPool, ranker: Any) -> Iterator[WatchedReplica]:
    """All that answer requests."""
    encoder_s = settings.encoder.answer_timeout_s
    for number, actor in pool.labellers.items():
        yield watched_labeller(settings, number, actor)
    for number, actor in enumerate(pool.cross_encoders):
        yield WatchedReplica(cross_encoder_name(number), actor, encoder_s, "score", *_QUESTION)
    yield WatchedReplica(ranker_name(), ranker, encoder_s, "ping")


def _is_there(name: str, namespace: str) -> bool:
    try:
        ray.get_actor(name, namespace)
    except ValueError:  # Ray's word for "no such actor"
        return False
    return True
