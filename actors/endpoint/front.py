"""The front door: pure ASGI around everything, so that no answer leaves without an id, a count and a right to it."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labelstream.actors.endpoint.bodies import ClientGone
from labelstream.actors.endpoint.problems import REFUSALS, ProblemType, problem_response, refusal_of
from labelstream.actors.endpoint.services import Request
from labelstream.actors.endpoint.telemetry import CLIENT_WENT_AWAY, RequestRecord, Telemetry

logger = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[!-~]{1,128}")
OTHER_ROUTE = "other"  # paths that anybody makes up must not become series of metrics

Doorkeeper = Callable[[str, Headers], str]


class FrontDoor:
    """Middleware: request ids, tokens, the deadline, telemetry, and the last word on errors.

    Args:
        app: What lies behind.
        doorkeeper: Names who asks, from path and headers, or raises ``Refused``.
        telemetry: What counts.
        deadline_s: Time for a request, in seconds, from its headers to the end of its answer.
        routes: Paths that there are.
        id_is_echoed: Whether a proxy in front sends the header X-Request-Id back as it came in.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        doorkeeper: Doorkeeper,
        telemetry: Telemetry,
        deadline_s: float,
        routes: frozenset[str],
        id_is_echoed: bool,
    ) -> None:
        self._app, self._doorkeeper, self._telemetry = app, doorkeeper, telemetry
        self._deadline_s, self._routes, self._id_is_echoed = deadline_s, routes, id_is_echoed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers, path = Headers(scope=scope), scope["path"].removeprefix(scope.get("root_path", ""))
        request_id = _request_id(headers)
        route = path if path in self._routes else OTHER_ROUTE
        with self._telemetry.request(route, scope["method"], request_id, headers.get("traceparent")) as record:
            echoed = self._id_is_echoed and headers.get("x-request-id") == request_id
            answer = Answer(send, request_id, record, id_is_echoed=echoed)
            try:
                async with asyncio.timeout(self._deadline_s):
                    record.token_name = self._doorkeeper(path, headers)
                    deadline = time.monotonic() + self._deadline_s
                    scope["labelstream.request"] = Request(request_id, deadline, record.token_name, record.notes)
                    await self._app(scope, receive, answer)
            except ClientGone:
                record.status = CLIENT_WENT_AWAY
            except Exception as error:
                await self._answer_error(error, scope, receive, answer)

    async def _answer_error(self, error: Exception, scope: Scope, receive: Receive, answer: Answer) -> None:
        refused = refusal_of(error)
        if refused.kind is ProblemType.INTERNAL:
            logger.error("request %s failed", answer.request_id, exc_info=error)
        if refused.kind in REFUSALS:
            self._telemetry.refused(refused.kind.slug)
        if answer.started:  # too late for another status: the server cuts the connection
            raise error
        await problem_response(refused, answer.request_id)(scope, receive, answer)


@dataclass
class Answer:
    """Sends on what goes out, and sees to its headers."""

    send: Send
    request_id: str
    record: RequestRecord
    id_is_echoed: bool
    started: bool = False

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start":
            self.started = True
            self.record.status = message["status"]
            headers = MutableHeaders(scope=message)
            if not self.id_is_echoed:
                headers["X-Request-Id"] = self.request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
        await self.send(message)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
