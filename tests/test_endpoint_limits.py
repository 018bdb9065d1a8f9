"""What one replica takes on: bodies, depth, requests, pairs and time, over real sockets where it matters."""

from __future__ import annotations

import json
import socket
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from endpoints import HeldServices, InstantServices, client, endpoint_app, inline, served
from patience import TIMEOUT

JSON = {"Content-Type": "application/json"}


class WeighingServices(InstantServices):
    """Sees how much memory is held when it is asked."""

    held = 0

    def _remember(self, *_: Any) -> None:
        self.held = tracemalloc.get_traced_memory()[0]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def ask(url: str, pairs: int = 1) -> httpx.Response:
    return httpx.post(f"{url}/v1/labels", json={"pairs": [inline()] * pairs}, timeout=TIMEOUT)


def problem(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["type"]).removeprefix("urn:labelstream:problem:")


def body_of(size: int) -> bytes:
    body = json.dumps({"pairs": [inline()]}).encode()
    return body + b" " * (size - len(body))


@pytest.mark.parametrize(("size", "status"), [(2048, 200), (2049, 413)])
def test_a_body_may_be_as_long_as_is_set(size: int, status: int):
    answer = client(max_body_bytes=2048).post("/v1/labels", content=body_of(size), headers=JSON)
    assert answer.status_code == status
    assert status == 200 or problem(answer) == "body-too-large"


@pytest.mark.parametrize("declared", ["2049", "9" * 18, "9" * 5000])
def test_a_body_that_says_it_is_too_long_is_not_read(declared: str):
    headers = {**JSON, "Content-Length": declared}
    answer = client(max_body_bytes=2048).post("/v1/labels", content=body_of(100), headers=headers)
    assert (answer.status_code, problem(answer)) == (413, "body-too-large")


@pytest.mark.parametrize(("chunks", "status"), [(2, 200), (3, 413)])
def test_a_body_without_a_length_is_counted(chunks: int, status: int):
    body = body_of(chunks * 1000)
    with served(endpoint_app(InstantServices(), max_body_bytes=2500)) as url:
        parts = (body[start : start + 1000] for start in range(0, len(body), 1000))
        answer = httpx.post(f"{url}/v1/labels", content=parts, headers=JSON, timeout=TIMEOUT)
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.status_code == status


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"pairs":' * 50_000, b'{"pairs":[' + b"[" * 300 + b"]" * 300 + b"]}"]
)
def test_depth_is_bounded(body: bytes):
    answer = client().post("/v1/labels", content=body, headers=JSON)
    assert answer.status_code == 400
    assert "recursion" in answer.json()["detail"]


NOBODY_READS: list[list[Any]] = [[] for _ in range(20_000)]
MANY = {
    "a field of a product": inline(x=NOBODY_READS),
    "a field beside a text that is too long": inline("q" * 1001, x=NOBODY_READS),
    "attributes": inline(attributes={f"{number:x}": "" for number in range(5_000)}),
    "other ids": inline(alternative_ids=[f"{number:x}" for number in range(20_000)]),
}


@pytest.mark.parametrize("pair", MANY.values(), ids=MANY)
def test_what_no_model_reads_of_a_pair_is_not_held_while_they_work(pair: dict[str, Any]):
    assert held_while_models_work("/v1/labels", {"pairs": [inline(), *[pair] * 10]}) < 0


@pytest.mark.parametrize("options", [{}, {"return_documents": True}, {"rank_fields": ["title"]}])
@pytest.mark.parametrize("inside", [{"x": NOBODY_READS, "text": "a"}, {"product": {"title": "a", "x": NOBODY_READS}}])
def test_what_no_model_reads_of_a_document_is_not_held_while_they_work(inside: dict[str, Any], options: dict[str, Any]):
    assert held_while_models_work("/v1/rerank", {"query": "a", "documents": [inside] * 10, **options}) < 0


def test_a_body_that_was_read_is_not_held_while_they_work():
    services, size = WeighingServices(), 4 << 20
    parts = [body_of(1 << 16), *[b" " * (1 << 16)] * (size >> 16)]
    with served(endpoint_app(services)) as url:
        ask(url)  # what is made once is there
        tracemalloc.start()
        try:
            answer = httpx.post(f"{url}/v1/labels", content=iter(parts), headers=JSON, timeout=TIMEOUT)
        finally:
            tracemalloc.stop()
    assert answer.status_code == 200
    assert services.held < size / 2


def held_while_models_work(path: str, body: dict[str, Any]) -> int:
    """How much more than its body, which the client holds, a request holds at the moment when models are asked."""
    services, content = WeighingServices(), json.dumps(body).encode()
    app = client(services)
    app.get("/healthz")  # what is made once is there
    tracemalloc.start()
    try:
        assert app.post(path, content=content, headers=JSON).status_code == 200
    finally:
        tracemalloc.stop()
    return services.held - len(content)


@pytest.mark.parametrize("headers", [
    {}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"},
    {**JSON, "Content-Encoding": "gzip"},
])  # fmt: skip
def test_only_plain_json_is_read(headers: dict[str, str]):
    answer = client().post("/v1/labels", content=body_of(100), headers=headers)
    assert (answer.status_code, problem(answer)) == (415, "unsupported-media-type")


def test_the_media_type_may_say_more():
    answer = client().post(
        "/v1/labels", content=body_of(100), headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert answer.status_code == 200


def test_more_pairs_than_there_is_ever_room_for():
    answer = client(max_pairs=3).post("/v1/labels", json={"pairs": [inline()] * 4})
    assert (answer.status_code, problem(answer)) == (413, "too-many-items")
    assert "3" in answer.json()["detail"]


@pytest.mark.parametrize("limit", [{"max_requests": 1}, {"max_pairs": 3}])
def test_a_full_replica_says_so_at_once(limit: dict[str, Any], threads: ThreadPoolExecutor):
    services = HeldServices()
    with served(endpoint_app(services, **limit)) as url:
        first: Future[httpx.Response] = threads.submit(ask, url, 2)
        assert services.started.wait(TIMEOUT)
        refused = ask(url, 2)
        services.let_go.set()
        assert first.result(TIMEOUT).status_code == 200
        assert ask(url, 2).status_code == 200
        metrics = httpx.get(f"{url}/metrics", timeout=TIMEOUT).text
    assert (refused.status_code, problem(refused)) == (503, "full")
    assert int(refused.headers["retry-after"]) >= 1
    assert 'labelstream_http_refused_total{reason="full",replica="replica-0"} 1.0' in metrics


def test_pairs_that_fit_are_let_in(threads: ThreadPoolExecutor):
    services = HeldServices()
    with served(endpoint_app(services, max_pairs=4)) as url:
        first = threads.submit(ask, url, 2)
        assert services.started.wait(TIMEOUT)
        services.started.clear()
        second = threads.submit(ask, url, 2)
        assert services.started.wait(TIMEOUT)
        services.let_go.set()
        assert [first.result(TIMEOUT).status_code, second.result(TIMEOUT).status_code] == [200, 200]


def test_what_takes_too_long_is_cancelled():
    services = HeldServices()
    answer = client(services, deadline_s=0.05).post("/v1/labels", json={"pairs": [inline()]})
    assert (answer.status_code, problem(answer)) == (504, "timeout")
    assert services.cancelled.is_set()


def test_the_services_know_the_deadline():
    services = InstantServices()
    app = client(services, deadline_s=7)
    app.post("/v1/labels", json={"pairs": [inline()]})
    app.post("/v1/labels", json={"pairs": [inline()]})
    first, second = (request.deadline for request in services.requests)
    assert first <= second <= first + 7


def test_a_client_that_hangs_up_cancels_its_work():
    services = HeldServices()
    with served(endpoint_app(services, max_requests=1)) as url:
        with _connected(url, body_of(100), declared=100):
            assert services.started.wait(TIMEOUT)
        assert services.cancelled.wait(TIMEOUT)
        services.let_go.set()
        _until_counted(url, status=499)
        assert ask(url).status_code == 200


def test_a_client_that_hangs_up_within_its_body_leaves_nothing():
    with served(endpoint_app(InstantServices(), max_requests=1)) as url:
        with _connected(url, body_of(100), declared=101):
            _until(url, "labelstream_http_in_flight_requests", 2)  # it, and the question itself
        _until_counted(url, status=499)
        assert ask(url).status_code == 200


def test_a_body_that_never_ends_is_given_up():
    with (
        served(endpoint_app(InstantServices(), deadline_s=0.2)) as url,
        _connected(url, b"{", declared=10) as connection,
    ):
        assert connection.recv(4096).startswith(b"HTTP/1.1 504 ")


def _connected(url: str, body: bytes, *, declared: int) -> socket.socket:
    """A connection on which a request, or the beginning of one, has been sent."""
    place = urlsplit(url)
    assert place.hostname is not None
    connection = socket.create_connection((place.hostname, place.port), TIMEOUT)
    head = (
        "POST /v1/labels HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {declared}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def _until_counted(url: str, *, status: int) -> None:
    _until(
        url,
        f'labelstream_http_requests_total{{method="POST",replica="replica-0",route="/v1/labels",status="{status}"}}',
        1,
    )


def _until(url: str, series: str, value: float) -> None:
    """Ask for the metrics until a series has a value; the question itself takes the time between."""
    for _ in range(2000):
        lines = httpx.get(f"{url}/metrics", timeout=TIMEOUT).text.splitlines()
        found = [line for line in lines if line.startswith(series) and float(line.rpartition(" ")[2]) == value]
        if found:
            return
    raise AssertionError(f"{series} never became {value}")
