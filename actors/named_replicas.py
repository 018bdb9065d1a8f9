"""Replicas of a model actor, called from an event loop and found by name."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from labelstream.actors.cluster import as_callers_error
from labelstream.actors.remote import AVOIDED_FOR_S
from labelstream.schemas.errors import ModelUnavailable
from labelstream.schemas.settings import Settings

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 1.0


class NamedReplicas:
    """Spreads calls over the replicas of one kind of actor, the least busy first.

    A replica that is dead or restarting costs another try, on another replica if there is one, until the caller's
    deadline. For one event loop; not for threads.

    Args:
        settings: Where ``ray`` matters.
        kind: The actors' names are ``<kind>-<number>``.
        count: How many there are.
    """

    def __init__(self, settings: Settings, kind: str, count: int) -> None:
        self._namespace, self._kind = settings.ray.namespace, kind
        self._count = 0
        self._handles: list[Any] = []
        self._busy: list[int] = []
        self._avoided_until: list[float] = []
        self.use(count)

    @property
    def count(self) -> int:
        """How many replicas there should be."""
        return self._count

    def use(self, count: int) -> None:
        """From now on there are so many; calls to the others come to their end."""
        more = max(0, count - len(self._handles))
        self._handles[count:] = [None] * max(0, len(self._handles) - count)  # who comes back is another actor
        self._handles += [None] * more
        self._busy += [0] * more
        self._avoided_until += [0.0] * more
        self._count = count

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
        wait_s, tried = _FIRST_WAIT_S, set[int]()
        while True:
            index = self._best(tried)
            try:
                return await self._call(index, method, arguments, deadline)
            except ModelUnavailable:
                tried = {index} if len(tried) + 1 >= self.count else {*tried, index}
                if time.monotonic() + wait_s >= deadline:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _best(self, tried: set[int]) -> int:
        now = time.monotonic()
        return min(
            range(self.count), key=lambda index: (index in tried, now < self._avoided_until[index], self._busy[index])
        )

    async def _call(self, index: int, method: str, arguments: tuple[Any, ...], deadline: float) -> Any:
        self._busy[index] += 1
        name, reference = f"{self._kind}-{index}", None
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                handle = self._handles[index] or await self._find(index)
                reference = getattr(handle, method).remote(*arguments)
                return await reference
        except RayTaskError as error:
            raise as_callers_error(error, name) from None  # it says itself where it comes from
        except RayError as error:
            self._handles[index] = None  # a new actor of this name may be there by now
            self._avoided_until[index] = time.monotonic() + AVOIDED_FOR_S
            raise as_callers_error(error, name) from error
        except (TimeoutError, asyncio.CancelledError):
            if reference is not None:
                ray.cancel(reference)  # nobody waits for it any more
            raise
        finally:
            self._busy[index] -= 1

    async def _find(self, index: int) -> Any:
        name = f"{self._kind}-{index}"
        try:
            self._handles[index] = await asyncio.to_thread(ray.get_actor, name, self._namespace)
        except ValueError as error:  # Ray's word for "no such actor"
            raise ModelUnavailable(f"{name} is not running") from error
        return self._handles[index]
