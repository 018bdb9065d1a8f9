"""Replicas of a model actor as the endpoint calls them: from an event loop, by name, until the caller's deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from labelstream.actors.actor_names import replica_name
from labelstream.actors.cluster import as_callers_error
from labelstream.actors.replica_pool import AVOIDED_FOR_S
from labelstream.schemas.errors import ModelUnavailable
from labelstream.schemas.settings import Settings

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 1.0


class _Replica:
    """One of them, the calls that it has, and until when others are asked first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.handle: Any = None
        self.busy, self.avoided_until = 0, 0.0


class NamedReplicas:
    """Spreads calls over the replicas of one kind of actor, the least busy first.

    A replica that is dead or restarting costs another try, on another replica if there is one, until the caller's
    deadline. For one event loop; not for threads.

    Args:
        settings: Where ``ray`` matters.
        kind: See ``replica_name``.
        count: How many there are at first.
    """

    def __init__(self, settings: Settings, kind: str, count: int) -> None:
        self._namespace, self._kind = settings.ray.namespace, kind
        self._replicas: dict[int, _Replica] = {}
        self.use(range(count))

    @property
    def count(self) -> int:
        """How many replicas there should be."""
        return len(self._replicas)

    def use(self, numbers: Iterable[int]) -> None:
        """From now on there are these; calls to the others come to their end."""
        known = self._replicas  # a number that comes back is another actor's
        self._replicas = {number: known.get(number) or _Replica(replica_name(self._kind, number)) for number in numbers}

    async def call(self, method: str, *arguments: Any, deadline: float) -> Any:
        """Ask one replica.

        Args:
            method: Of the actor.
            arguments: Of the method.
            deadline: Of ``time.monotonic()``.

        Raises:
            ModelUnavailable: No replica has been there until the deadline.
            TimeoutError: One works on it, but not fast enough.
            LabelstreamError: What the method raised.
        """
        wait_s, tried = _FIRST_WAIT_S, set[str]()
        while True:
            replica = self._best(tried)
            try:
                return await self._call(replica, method, arguments, deadline)
            except ModelUnavailable:
                tried = {replica.name} if len(tried) + 1 >= self.count else {*tried, replica.name}
                if time.monotonic() + wait_s >= deadline:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _best(self, tried: set[str]) -> _Replica:
        now = time.monotonic()
        return min(self._replicas.values(), key=lambda one: (one.name in tried, now < one.avoided_until, one.busy))

    async def _call(self, replica: _Replica, method: str, arguments: tuple[Any, ...], deadline: float) -> Any:
        replica.busy += 1
        reference = None
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                handle = replica.handle or await self._find(replica)
                reference = getattr(handle, method).remote(*arguments)
                return await reference
        except RayTaskError as error:
            raise as_callers_error(error, replica.name) from None  # it says itself where it comes from
        except RayError as error:
            replica.handle = None  # a new actor of this name may be there by now
            replica.avoided_until = time.monotonic() + AVOIDED_FOR_S
            raise as_callers_error(error, replica.name) from error
        except (TimeoutError, asyncio.CancelledError):
            if reference is not None:
                ray.cancel(reference)  # nobody waits for it any more
            raise
        finally:
            replica.busy -= 1

    async def _find(self, replica: _Replica) -> Any:
        try:
            replica.handle = await asyncio.to_thread(ray.get_actor, replica.name, self._namespace)
        except ValueError as error:  # Ray's word for "no such actor"
            raise ModelUnavailable(f"{replica.name} is not running") from error
        return replica.handle
