"""Replicas of a model actor as the endpoint calls them: from an event loop, by name, until the caller's deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError, RayTaskError

from labelstream.actors.actor_names import replica_name
from labelstream.actors.cluster import as_callers_error
from labelstream.actors.replica_pool import AVOIDED_FOR_S
from labelstream.schemas.errors import ModelUnavailable, TransientError
from labelstream.schemas.settings import Settings

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 1.0
# One that lets the time of a call pass may well hang; whoever watches over it needs minutes to be sure.
_SILENT_FOR_S = 30.0
# Whoever sets the deadline may give up that much before it.
_ABOUT_S = 0.1


class Reserve(NamedTuple):
    """Replicas that are asked before the others: the lowest numbers.

    Attributes:
        replicas: How many.
        calls: Each is asked first while it has fewer than this.
    """

    replicas: int
    calls: float


NO_RESERVE = Reserve(0, 0)


class _Replica:
    """One of them, the calls that it has, and until when others are asked first."""

    def __init__(self, name: str, calls_first: float) -> None:
        self.name, self._calls_first = name, calls_first
        self.handle: Any = None
        self.busy, self.avoided_until = 0, 0.0

    @property
    def is_first_choice(self) -> bool:
        return self.busy < self._calls_first


class NamedReplicas:
    """Spreads calls over the replicas of one kind of actor, the least busy first.

    A replica that is dead or restarting costs another try, on another replica if there is one, until the caller's
    deadline. One that has let a deadline pass is asked after the others for a while. For one event loop; not for
    threads.

    Args:
        settings: Where ``ray`` matters.
        kind: See ``replica_name``.
        count: How many there are at first.
        reserve: Those that are asked before the others.
    """

    def __init__(self, settings: Settings, kind: str, count: int, reserve: Reserve = NO_RESERVE) -> None:
        self._namespace, self._kind, self._reserve = settings.ray.namespace, kind, reserve
        self._replicas: dict[int, _Replica] = {}
        self.use(range(count))

    @property
    def count(self) -> int:
        """How many replicas there should be."""
        return len(self._replicas)

    def use(self, numbers: Iterable[int]) -> None:
        """From now on there are these; calls to the others come to their end."""
        known = self._replicas  # a number that comes back is another actor's
        self._replicas = {number: known.get(number) or self._replica(number) for number in numbers}

    def _replica(self, number: int) -> _Replica:
        calls_first = self._reserve.calls if number < self._reserve.replicas else 0
        return _Replica(replica_name(self._kind, number), calls_first)

    async def any_answers(self, deadline: float) -> bool:
        """Whether one of them answers its ``ping`` with yes until then.

        Args:
            deadline: Of ``time.monotonic()``.
        """
        asked = [asyncio.create_task(self._call(replica, "ping", (), deadline)) for replica in self._replicas.values()]
        try:
            for answer in asyncio.as_completed(asked):
                with suppress(TransientError, TimeoutError, RayError):
                    if await answer:
                        return True
            return False
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

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
        return min(
            self._replicas.values(),
            key=lambda one: (one.name in tried, now < one.avoided_until, not one.is_first_choice, one.busy),
        )

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
            if time.monotonic() >= deadline - _ABOUT_S:
                replica.avoided_until = time.monotonic() + _SILENT_FOR_S
            raise
        finally:
            replica.busy -= 1

    async def _find(self, replica: _Replica) -> Any:
        try:
            replica.handle = await asyncio.to_thread(ray.get_actor, replica.name, self._namespace)
        except ValueError as error:  # Ray's word for "no such actor"
            raise ModelUnavailable(f"{replica.name} is not running") from error
        return replica.handle
