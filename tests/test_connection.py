"""What a connection may do before there is a request, over real sockets; and that everybody else notices nothing."""

from __future__ import annotations

import json
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from endpoints import HeldServices, InstantServices, endpoint_app, inline, served
from patience import TIMEOUT

from labelstream.actors.endpoint import connection
from labelstream.actors.endpoint.connection import MAX_CONNECTIONS, MAX_HEAD_BYTES
from labelstream.actors.endpoint.problems import URN
from labelstream.schemas.http import Problem

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = json.dumps({"pairs": [inline()]}).encode()


class Answer(NamedTuple):
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Caller:
    """Speaks HTTP by hand, so that it can say what no client says.

    Args:
        url: Of the endpoint.
    """

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self.socket = socket.create_connection((str(place.hostname), int(place.port or 0)), TIMEOUT)
        self._answers = self.socket.makefile("rb")

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def line(self) -> bytes:
        return self._answers.readline()

    def answer(self) -> Answer:
        status = int(self.line().split()[1])
        headers = {}
        while line := self.line().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return Answer(status, headers, self._answers.read(int(headers["content-length"])))

    def rest(self) -> bytes:
        """What comes until the connection is closed; fails where it is reset."""
        return self._answers.read()


@contextmanager
def calling(url: str) -> Iterator[Caller]:
    caller = Caller(url)
    try:
        yield caller
    finally:
        caller._answers.close()
        caller.socket.close()


@pytest.fixture
def url() -> Iterator[str]:
    with served(endpoint_app(InstantServices())) as url:
        yield url


def slug_of(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    problem = Problem.model_validate_json(answer.body)
    assert problem.status == answer.status
    return problem.type.removeprefix(URN)


def labels(*headers: bytes, body: bytes = BODY) -> bytes:
    head = [b"POST /v1/labels HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *headers]
    return b"\r\n".join([*head, b"", body])


def head_of(size: int) -> bytes:
    """Headers of so many bytes, their end included."""
    beginning, end = HEALTH[:-2] + b"X: ", b"\r\n\r\n"
    return beginning + b"x" * (size - len(beginning) - len(end)) + end


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD_BYTES - 1, 200), (MAX_HEAD_BYTES + 1, 431)])
def test_headers_may_be_as_long_as_is_said(size: int, status: int, pieces: int, url: str):
    head = head_of(size)
    with calling(url) as caller:
        caller.send(*(head[start : start + size // pieces + 1] for start in range(0, size, size // pieces + 1)))
        answer = caller.answer()
        assert answer.status == status
        if status == 431:
            assert slug_of(answer) == "headers-too-large"
            assert caller.rest() == b""


@pytest.mark.parametrize(
    "much",
    [HEALTH[:-2] + b"X: " + b"x" * (20 << 20), b"GET /" + b"x" * (10 << 20), HEALTH[:-2] + b"x:\r\n" * 200_001,
     b"\r\n" * (1 << 20)],
    ids=["a long header", "a long address", "many headers", "empty lines"],
)  # fmt: skip
def test_whoever_still_sends_is_told_why_it_is_refused(much: bytes, url: str):
    with calling(url) as caller:
        caller.send(much)
        assert slug_of(caller.answer()) == "headers-too-large"
        assert caller.rest() == b""


def test_headers_after_a_body_are_bounded_too(url: str):
    with calling(url) as caller:
        caller.send(labels(b"Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\nX: "), b"x" * 2 * MAX_HEAD_BYTES)
        assert slug_of(caller.answer()) == "headers-too-large"
        assert caller.rest() == b""


def test_it_is_refused_after_the_answers_that_are_under_way():
    services = HeldServices()
    with served(endpoint_app(services)) as url, calling(url) as caller:
        caller.send(labels(b"Content-Length: %d" % len(BODY)))
        assert services.started.wait(TIMEOUT)
        caller.send(head_of(2 * MAX_HEAD_BYTES))
        services.let_go.set()
        assert caller.answer().status == 200
        assert slug_of(caller.answer()) == "headers-too-large"
        assert caller.rest() == b""


@pytest.mark.parametrize("begun", [b"", b"GET", HEALTH[:-2], HEALTH + HEALTH[:-2]])
def test_a_connection_without_a_request_is_closed(begun: bytes, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "HEADERS_S", 0.05)
    with calling(url) as caller:
        caller.send(begun)
        if begun.startswith(HEALTH):
            assert caller.answer().status == 200
            caller.send(b"X")
        assert caller.rest() == b""


def test_only_headers_have_to_come_soon(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "HEADERS_S", 0.05)
    services = HeldServices()
    with served(endpoint_app(services)) as url, calling(url) as idle, calling(url) as slow:
        idle.send(HEALTH)
        assert idle.answer().status == 200
        slow.send(labels(b"Content-Length: %d" % len(BODY), body=BODY[:5]))
        with calling(url) as silent:
            assert silent.rest() == b""  # so the time for headers is over
        slow.send(BODY[5:])
        with calling(url) as silent:
            assert silent.rest() == b""
        services.let_go.set()
        assert slow.answer().status == 200
        idle.send(HEALTH)
        assert idle.answer().status == 200


def test_a_connection_too_many_is_told_so(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 1)
    with calling(url) as first:
        first.send(HEALTH)
        assert first.answer().status == 200
        with calling(url) as second:
            answer = second.answer()
            assert slug_of(answer) == "full"
            assert int(answer.headers["retry-after"]) >= 1
            assert second.rest() == b""
        first.send(HEALTH)
        assert first.answer().status == 200
    while httpx.get(f"{url}/healthz", timeout=TIMEOUT).status_code == 503:
        pass


def test_very_many_connections_are_told_nothing(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 0)
    monkeypatch.setattr(connection, "MAX_TOLD", 0)
    with calling(url) as caller:
        assert caller.rest() == b""


@pytest.mark.parametrize(
    ("files", "most"), [(100, 50), (1 << 20, MAX_CONNECTIONS), (resource.RLIM_INFINITY, MAX_CONNECTIONS)]
)
def test_connections_leave_files_for_the_replica(files: int, most: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert connection._most_connections() == most


@pytest.mark.parametrize(
    "said", [b"hello\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\n\r\n", labels(b"Transfer-Encoding: chunked", body=b"zz\r\n")]
)
def test_what_is_no_http_is_a_problem_too(said: bytes, url: str):
    with calling(url) as caller:
        caller.send(said)
        answer = caller.answer()
        assert (answer.status, slug_of(answer)) == (400, "not-http")
        assert caller.rest() == b""


def test_requests_in_a_row_are_answered_in_their_order(url: str):
    with calling(url) as caller:
        caller.send(labels(b"Content-Length: %d" % len(BODY)) + HEALTH + labels(b"Content-Length: 2", body=b"{}"))
        assert [caller.answer().status for _ in range(3)] == [200, 200, 422]


def test_a_body_in_many_small_chunks_is_taken(url: str):
    chunks = b"".join(b"1;%s\r\n%c\r\n" % (b"x" * 1000, byte) for byte in BODY.ljust(200))
    with calling(url) as caller:
        caller.send(labels(b"Transfer-Encoding: chunked", body=chunks + b"0\r\nX: y\r\n\r\n"), HEALTH)
        assert [caller.answer().status for _ in range(2)] == [200, 200]


def test_whoever_expects_a_word_before_the_body_gets_it(url: str):
    with calling(url) as caller:
        caller.send(labels(b"Expect: 100-continue", b"Content-Length: %d" % len(BODY), body=b""))
        assert re.fullmatch(rb"HTTP/1.1 100 .*\r\n", caller.line())
        assert caller.line() == b"\r\n"
        caller.send(BODY)
        assert caller.answer().status == 200


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_another_protocol_is_not_spoken(protocol: bytes, url: str, caplog: pytest.LogCaptureFixture):
    upgrade = HEALTH[:-2] + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
    with calling(url) as caller:
        for _ in range(2):
            caller.send(upgrade)
            assert caller.answer().status == 200
    assert not caplog.records
