"""Ray actors as plain futures, and Ray's errors as ours."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from labelstream.schemas.errors import LakeUnavailable, ModelUnavailable, TransientError
from labelstream.schemas.judgements import Judgements
from labelstream.schemas.scale import Floats
from labelstream.schemas.settings import Settings, StreamSettings
from labelstream.streaming.commit import Commit, Receipt
from labelstream.streaming.retry import Patience

logger = logging.getLogger(__name__)

# Batches that a model actor may be given at once: it queues them itself, and answers small questions beside them.
CALLS_AT_ONCE = 1000
# Ray takes up to two seconds to say that an actor is restarting; not every caller has to find that out.
AVOIDED_FOR_S = 5.0
# Ray sends an actor that asks for nothing to any node at random, whatever its strategy, and a head without cores too.
CLUSTER_CPUS = 0.01


def cpus_of(settings: Settings) -> float:
    """Cores that a process of ours reserves when it does not ask for more: on a machine of its own none."""
    return 0 if settings.ray.address is None else CLUSTER_CPUS


def actor_options(settings: Settings, name: str, **options: Any) -> dict[str, Any]:
    """Ray's options for one of our actors: found by name, always restarted, and no call repeated behind our back.

    Args:
        settings: Where ``ray`` matters.
        name: Unique in the namespace.
        options: What this actor wants otherwise or on top.
    """
    return {
        "name": name,
        "namespace": settings.ray.namespace,
        "num_cpus": cpus_of(settings),
        "max_restarts": -1,
        "max_task_retries": 0,  # who makes a call decides whether to make it again
        "enable_task_events": False,  # the head would remember every call: half a MiB more a second under load
        **options,
    }


def future_of(reference: Any, name: str, unavailable: type[TransientError]) -> Future[Any]:
    """An object reference as a future.

    Args:
        reference: What a remote call returned.
        name: Whom we asked, for the message.
        unavailable: What a dead or restarting actor becomes.
    """
    ours: Future[Any] = Future()

    def pass_on(theirs: Future[Any]) -> None:
        error = theirs.exception()
        if error is None:
            ours.set_result(theirs.result())
        elif isinstance(error, RayError) and not isinstance(error, RayTaskError):
            ours.set_exception(unavailable(f"{name}: {first_line(error)}"))
        else:
            ours.set_exception(error)

    reference.future().add_done_callback(pass_on)
    return ours


def first_line(error: BaseException) -> str:
    """The first line of an error that may carry a whole traceback."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


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
        count: How many there are at first.
        answer_timeout_s: A replica that owes an answer for longer is restarted.
    """

    def __init__(self, name: str, find: Callable[[int], Any], count: int, answer_timeout_s: float) -> None:
        self._name, self._find = name, find
        self._replicas = [_Replica(index, find(index)) for index in range(count)]
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


class RemoteWriter:
    """The Writer actor, as the stream sees it."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def commit(self, commit: Commit) -> Future[Receipt]:
        """Write a batch."""
        return self._call(self._actor.commit.remote(commit))

    def offsets(self) -> Future[dict[tuple[str, int], int]]:
        """The lake's offsets."""
        return self._call(self._actor.offsets.remote())

    def resolvable(self, limit: int) -> Future[tuple[int, list[dict[str, Any]]]]:
        """Waiting events that can be joined."""
        return self._call(self._actor.resolvable.remote(limit))

    def restart(self) -> None:
        """Kill it; Ray starts it afresh, and the lake's transaction is rolled back."""
        ray.kill(self._actor, no_restart=False)

    def patience(self, stream: StreamSettings) -> Patience:
        """How patient everybody is with it."""
        return Patience("writer", stream.hang_s, stream.give_up_s, self.restart)

    @staticmethod
    def _call(reference: Any) -> Future[Any]:
        return future_of(reference, "writer", LakeUnavailable)
