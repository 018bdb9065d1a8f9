"""Watches over the model actors where nobody else does: those that hang are restarted, those that are gone are told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Self

import ray
from ray.exceptions import RayActorError

from labelstream.actors.model_pool import ModelPool
from labelstream.actors.on_demand_pool import ON_DEMAND_PRIORITY
from labelstream.schemas.settings import Settings

# Questions in the time after which a replica counts as hanging, and seconds between two of them at most.
_QUESTIONS, _LONGEST_INTERVAL_S = 10, 30.0
# Among those that wait for an answer: behind a full stream the models would look dead.
_QUESTION = ["is it alive"], ["Title: it\n"], ON_DEMAND_PRIORITY

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
    """Looks at every model actor now and then, in a thread of its own; use as a context manager.

    Begin when the models are loaded: what loads cannot answer.

    Args:
        replicas: Whom to watch.
        namespace: Of their names.
        interval_s: Seconds from one look to the next.
    """

    def __init__(self, replicas: list[WatchedReplica], namespace: str, interval_s: float) -> None:
        self._replicas, self._namespace, self._interval_s = replicas, namespace, interval_s
        self._gone = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch-replicas", daemon=True)

    @classmethod
    def over(cls, settings: Settings, pool: ModelPool, ranker: Any) -> Self:
        """A watch over all that answer requests."""
        patience_s = min(settings.labeller.answer_timeout_s, settings.encoder.answer_timeout_s)
        replicas = list(_replicas(settings, pool, ranker))
        return cls(replicas, settings.ray.namespace, watch_interval_s(patience_s))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def gone(self) -> str:
        """Who is dead and will not be restarted; empty while there is nobody."""
        return self._gone

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            for replica in self._replicas:
                try:
                    if not replica.look(self._namespace) and not self._gone:
                        _log.error("%s is dead and does not start again", replica.name)
                        self._gone = replica.name
                except Exception:  # a watch must not end because of what it sees
                    _log.exception("%s cannot be looked at", replica.name)


def watch_interval_s(answer_timeout_s: float) -> float:
    """Seconds from one look to the next, for replicas that may owe an answer for so long."""
    return min(answer_timeout_s / _QUESTIONS, _LONGEST_INTERVAL_S)


def watched_labeller(settings: Settings, index: int, actor: Any) -> WatchedReplica:
    """A Labeller, and the pair that it is asked to judge."""
    return WatchedReplica(f"labeller-{index}", actor, settings.labeller.answer_timeout_s, "judge", *_QUESTION)


def _replicas(settings: Settings, pool: ModelPool, ranker: Any) -> Iterator[WatchedReplica]:
    encoder_s = settings.encoder.answer_timeout_s
    for index, actor in enumerate(pool.labellers):
        yield watched_labeller(settings, index, actor)
    for index, actor in enumerate(pool.cross_encoders):
        yield WatchedReplica(f"cross-encoder-{index}", actor, encoder_s, "score", *_QUESTION)
    yield WatchedReplica("ranker-0", ranker, encoder_s, "ping")


def _is_there(name: str, namespace: str) -> bool:
    try:
        ray.get_actor(name, namespace)
    except ValueError:  # Ray's word for "no such actor"
        return False
    return True
