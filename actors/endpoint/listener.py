"""The endpoint's own HTTP server: a replica that listens itself answers sooner than one behind Ray Serve's proxy."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp

from labelstream.actors.addresses import family_of
from labelstream.actors.endpoint.connection import BoundedConnection

_STARTING_S = 0.01


class Listener:
    """Serves an application on the running event loop; several of one machine may share an address.

    Args:
        app: To be served.
        host: Address to listen at.
        port: Of it.
        closing_s: How long requests under way may take once it is closed.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, closing_s: float) -> None:
        self._address = host, port
        config = uvicorn.Config(
            app,
            http=BoundedConnection,
            ws="none",  # there is no such route
            log_config=None,
            access_log=False,  # the front door writes its own
            server_header=False,
            proxy_headers=False,  # nobody in front is trusted to say who asks
            timeout_graceful_shutdown=max(1, round(closing_s)),
        )
        self._server = uvicorn.Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be had.
        """
        family = family_of(self._address[0])
        listening = socket.create_server(self._address, family=family, backlog=2048, reuse_port=True)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(_STARTING_S)
        if self._serving.done():
            await self._serving

    async def close(self) -> None:
        """Let nobody in any more, and let those who are in have their answers."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
