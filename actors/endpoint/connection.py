"""One connection to the endpoint's own server, bounded where uvicorn bounds nothing: before and after a request."""

from __future__ import annotations

import asyncio
import resource
import socket
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from labelstream.actors.endpoint.problems import ProblemType, Refused, problem_response

HEADERS_S = 10.0  # from the first byte, or from the connection, to the end of the headers
MAX_HEAD_BYTES = 64 << 10  # address and headers; the parser copies what it has of a value with every piece of it
MAX_CONNECTIONS = 1000  # of one replica
MAX_TOLD = 100  # of those beyond them are told so, each for a moment; to others the connection is closed
UNREAD_S = 30.0  # uvicorn closes a connection once all is sent; whoever reads nothing would hold it for good
LINGER_S = 1.0  # a client that still sends must not find the connection reset before it has read why


class BoundedConnection(HttpToolsProtocol):
    """Bounds the time and the bytes of what comes before a request, the number of connections, and unread answers.

    What it refuses it answers as everything else is answered, after the answers that are under way, and it closes the
    connection then. An idle connection between two requests is uvicorn's own affair, and the time of a request is the
    front door's.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._unfinished = 0  # bytes of headers that have not ended, or of what stands between parts of a body
        self._waiting: asyncio.TimerHandle | None = None
        self._refusal = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin, or say that there are too many."""
        super().connection_made(transport)
        _give_up_on_who_reads_nothing(transport.get_extra_info("socket"))
        beyond = len(self.connections) - _most_connections()
        if beyond > MAX_TOLD:
            transport.abort()
        elif beyond > 0:
            self._refuse(ProblemType.FULL, "too many connections at once; close some, or try again in a moment")
        else:
            self._wait(HEADERS_S)

    def data_received(self, data: bytes) -> None:
        """Take in some bytes, in pieces that end where the headers have to have ended."""
        while data and not self._refusal:
            room = MAX_HEAD_BYTES - self._unfinished
            piece, data = data[:room], data[room:]
            self._unfinished += len(piece)
            super().data_received(piece)
            if self._unfinished >= MAX_HEAD_BYTES and not self._refusal:
                detail = f"address and headers have to be less than {MAX_HEAD_BYTES} bytes; send fewer, or shorter ones"
                self._refuse(ProblemType.HEADERS_TOO_LARGE, detail)
        if self._waiting is None and not self._answers:
            self._wait(HEADERS_S)

    def on_headers_complete(self) -> None:
        """A request begins; from here on it has the front door's deadline."""
        self._unfinished = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body; what follows the last one is bounded as headers are."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has ended."""
        self._unfinished = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer has ended; whoever sent something wrong after that request hears of it now."""
        super().on_response_complete()
        if self._refusal and not self._answers and not self.transport.is_closing():
            self._say_no()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn, which would answer in plain text, and in the middle of another answer."""
        self._refuse(ProblemType.NOT_HTTP, f"{msg.rstrip('.')}; send HTTP/1.1")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once, in the end."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _unsupported_upgrade_warning(self) -> None:
        """Anybody may propose another protocol, and is answered in this one; uvicorn would log advice to install it."""

    @property
    def _answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self, seconds: float) -> None:
        """Close the connection then, unless a request begins."""
        self._stop_waiting()
        self._waiting = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, kind: ProblemType, detail: str) -> None:
        """Read no more, and say why as soon as it cannot be taken for another request's answer."""
        self._refusal = self._bytes_of(Refused(kind, detail, headers={"Connection": "close"}))
        cycle = self.cycle
        if not self._answers:
            self._say_no()
        elif cycle.more_body:  # what is wrong is a part of this request, which therefore has no other answer
            alone = not cycle.response_started and not self.pipeline
            cycle.disconnected = True
            cycle.message_event.set()
            if alone:
                self._say_no()
            else:
                self.transport.close()

    def _bytes_of(self, refused: Refused) -> bytes:
        status = HTTPStatus(refused.kind.status)
        answer = problem_response(refused, None)
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines = [f"HTTP/1.1 {status} {status.phrase}".encode(), *(b": ".join(header) for header in headers)]
        return b"\r\n".join([*lines, b"", bytes(answer.body)])

    def _say_no(self) -> None:
        self.transport.write(self._refusal)
        self.transport.write_eof()
        self.flow.resume_reading()  # to throw away what comes, until the client ends or has had its time
        self._stop_waiting()
        self._waiting = self.loop.call_later(LINGER_S, self.transport.abort)


def _most_connections() -> int:
    """Each takes a file descriptor, and the replica needs some for its own."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 2)


def _give_up_on_who_reads_nothing(connected: socket.socket) -> None:
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD_S * 1000))
