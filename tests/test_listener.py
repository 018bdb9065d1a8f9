from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from patience import TIMEOUT
from starlette.types import Receive, Scope, Send

from labelstream.actors.addresses import url_of
from labelstream.actors.endpoint import connection
from labelstream.actors.endpoint.listener import Listener
from labelstream.actors.local_serving import _free_port
from labelstream.schemas.errors import SettingsError


class SlowApplication:
    """Says who answers, when it is allowed to."""

    def __init__(self, name: str, *, open_at_once: bool = True) -> None:
        self.name = name
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        if open_at_once:
            self.may_answer.set()

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.asked.set()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.name.encode()})


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_who_is_in_gets_an_answer_and_nobody_else_comes_in(port: int):
    async def main() -> None:
        app = SlowApplication("late", open_at_once=False)
        listener = Listener(app, "127.0.0.1", port, closing_s=30)
        await listener.start()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answer = asyncio.create_task(client.get("/"))
            await app.asked.wait()
            closing = asyncio.create_task(listener.close())
            while _is_open(port):
                await asyncio.sleep(0.01)
            assert not closing.done()
            app.may_answer.set()
            assert (await answer).text == "late"
        await closing

    asyncio.run(main())


def test_replicas_share_an_address(port: int):
    async def main() -> None:
        listeners = [Listener(SlowApplication(name), "127.0.0.1", port, closing_s=1) for name in "ab"]
        for listener in listeners:
            await listener.start()
        answers = set()
        while len(answers) < 2:
            async with httpx.AsyncClient() as client:  # a new connection each time
                answers.add((await client.get(f"http://127.0.0.1:{port}/")).text)
        assert answers == {"a", "b"}
        await asyncio.gather(*(listener.close() for listener in listeners))

    asyncio.run(main())


def test_an_address_that_cannot_be_had_is_an_error(port: int):
    with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match="in use"):
        asyncio.run(Listener(SlowApplication("x"), "127.0.0.1", port, closing_s=1).start())


class TalkativeApplication:
    """Answers at once, with more than any socket takes in."""

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * (32 << 20)})


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has this")
def test_whoever_reads_nothing_does_not_hold_a_connection_for_good(port: int, monkeypatch: pytest.MonkeyPatch):
    async def main() -> None:
        listener = Listener(TalkativeApplication(), "127.0.0.1", port, closing_s=1)
        await listener.start()
        connections = listener._server.server_state.connections
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(TIMEOUT):
                while not connections:
                    await asyncio.sleep(0.01)
                while connections:
                    await asyncio.sleep(0.01)
        await listener.close()

    monkeypatch.setattr(connection, "UNREAD_S", 0.3)
    asyncio.run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_it_can_be_asked_wherever_it_listens(host: str):
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")

    async def main() -> None:
        port = _free_port(host, 0)
        listener = Listener(SlowApplication("here"), host, port, closing_s=1)
        await listener.start()
        with pytest.raises(SettingsError, match=f"LABELSTREAM_ENDPOINT_PORT={port}"):
            _free_port(host, port)
        async with httpx.AsyncClient(base_url=url_of(host, port)) as client:
            assert (await client.get("/")).text == "here"
        await listener.close()

    asyncio.run(main())


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
