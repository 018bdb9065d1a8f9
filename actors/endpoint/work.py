"""Around every request that costs something: admission, its body, and the end of work that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive

from labelstream.actors.endpoint.admission import Admission
from labelstream.actors.endpoint.bodies import ClientGone, read_body
from labelstream.actors.endpoint.services import Request

Handler = Callable[[bytes, Request], Coroutine[Any, Any, Response]]


class Workroom:
    """Lets requests in one by one, and hands their bodies to those who answer them.

    Args:
        admission: How many at once.
        max_body_bytes: Longest body.
    """

    def __init__(self, admission: Admission, max_body_bytes: int) -> None:
        self.admission = admission
        self._max_body_bytes = max_body_bytes

    async def answer(self, http: HttpRequest, handler: Handler) -> Response:
        """Answer one request; the handler alone has its body, and lets go of it when it can.

        Raises:
            Refused: It is not let in, or its body is too large.
            ClientGone: The client hung up; the work was cancelled.
        """
        with self.admission.request():
            work = handler(await read_body(http.headers, http.receive, self._max_body_bytes), asked(http))
            return await _unless_gone(http.receive, work)


def asked(http: HttpRequest) -> Request:
    """What the front door found out about a request."""
    request: Request = http.scope["labelstream.request"]
    return request


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, Response]) -> Response:
    task, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return await task
    finally:
        await _cancelled(task, gone)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
