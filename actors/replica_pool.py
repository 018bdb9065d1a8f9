"""Replicas of a model actor as the stream calls them: from a thread, for futures that others look at."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray

from labelstream.actors.remote import future_of
from labelstream.schemas.errors import ModelUnavailable
from labelstream.schemas.judgements import Judgements
from labelstream.schemas.scale import Floats

logger = logging.getLogger(__name__)

# Ray takes up to two seconds to say that an actor is restarting; not every caller has to find that out.
AVOIDED_FOR_S = 5.0


class _Replica:
    """One of a pool, the calls that it owes an answer, and until when others are asked first."""

    def __init__(self, index: int, handle: Any) -> None:
        self.index, self.handle = index, handle
        self.owed: dict[int, float] = {}
        self.avoided_until = 0.0

    def settle(self, number: int, future: Future[Any]) -> None:
        """A call has come to its end."""
        self.owed.pop(number, None)
        if isinstance(future.exception(), ModelUnavailable):
            self.avoided_until = time.monotonic() + AVOIDED_FOR_S


class ReplicaPool:
    """Spreads calls over the replicas of one kind of actor, the least busy first.

    A replica that has just been unavailable is asked after the others: what fails at once would else always be the
    least busy one.

    Args:
        name: What they are, for messages.
        find: The handle of a replica by its number; raises ``ValueError`` where there is none.
        numbers: Those that there are at first.
        answer_timeout_s: A replica that owes an answer for longer is restarted.
    """

    def __init__(self, name: str, find: Callable[[int], Any], numbers: Iterable[int], answer_timeout_s: float) -> None:
        self._name, self._find = name, find
        self._replicas = [_Replica(index, find(index)) for index in numbers]
        self._answer_timeout_s = answer_timeout_s
        self._numbers = itertools.count()

    def use(self, numbers: Iterable[int]) -> None:
        """From now on there are these; calls to the others come to their end. Any one thread may say so."""
        known = {replica.index: replica for replica in self._replicas}
        used = []
        for index in numbers:
            try:
                used.append(known.get(index) or _Replica(index, self._find(index)))
            except ValueError:  # it has just died; whoever watches over them will notice
                continue
        self._replicas = used  # in one assignment: a call under way sees the ones before, or these

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Ask one replica."""
        now, number = time.monotonic(), next(self._numbers)
        replica = min(self._replicas, key=lambda one: (now < one.avoided_until, len(one.owed)))
        replica.owed[number] = now
        reference = getattr(replica.handle, method).remote(*arguments)
        future = future_of(reference, f"{self._name} {replica.index}", ModelUnavailable)
        future.add_done_callback(partial(replica.settle, number))
        return future

    def restart_silent(self) -> None:
        """Kill replicas that owe an answer for too long; Ray starts them afresh."""
        now = time.monotonic()
        for replica in self._replicas:
            if replica.owed and now - min(replica.owed.values()) >= self._answer_timeout_s:
                logger.warning("a %s has not answered for %g s and is restarted", self._name, self._answer_timeout_s)
                ray.kill(replica.handle, no_restart=False)


class RemoteJudge:
    """The Labeller replicas, as the stream sees them."""

    def __init__(self, pool: ReplicaPool) -> None:
        self._pool = pool

    def judge(self, queries: Sequence[str], products: Sequence[str]) -> Future[Judgements]:
        """Have one replica judge a batch."""
        return self._pool.call("judge", list(queries), list(products))


class RemoteScorer:
    """The CrossEncoder replicas, as the stream sees them."""

    def __init__(self, pool: ReplicaPool, version: str) -> None:
        self._pool = pool
        self.version = version

    def score(self, queries: Sequence[str], products: Sequence[str]) -> Future[Floats]:
        """Have one replica score a batch."""
        return self._pool.call("score", list(queries), list(products))
