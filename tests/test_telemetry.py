"""What a replica of the endpoint tells: counts, times, a log line a request, spans to a real OTLP collector."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from collectors import Collector, SilentCollector, attributes
from fastapi import FastAPI, Request, Response
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.parser import text_string_to_metric_families

from labelstream.actors.endpoint import traces
from labelstream.actors.endpoint.logs import RESERVED_FIELDS
from labelstream.actors.endpoint.telemetry import LATENCY_BUCKETS, Telemetry
from labelstream.actors.metric_list import HTTP_METRICS
from labelstream.schemas.settings import Settings

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET, PRODUCT = "ls_secret-token", "Logitech M185"


def values(telemetry: Telemetry, name: str) -> dict[tuple[str, ...], float]:
    """Samples of a name by the values of their labels, the replica left out."""
    found = {}
    for family in text_string_to_metric_families(telemetry.text()):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("replica") == "r1"
            if sample.name == name:
                found[tuple(labels.values())] = sample.value
    return found


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(Settings(), "r1")


def test_a_request_is_counted_and_timed(telemetry: Telemetry):
    with telemetry.request("/v1/labels", "POST", "a", None) as record:
        assert values(telemetry, "labelstream_http_in_flight_requests") == {(): 1}
        record.status = 200
    assert values(telemetry, "labelstream_http_in_flight_requests") == {(): 0}
    assert values(telemetry, "labelstream_http_requests_total") == {("POST", "/v1/labels", "200"): 1}
    assert values(telemetry, "labelstream_http_request_seconds_count") == {("/v1/labels",): 1}
    buckets = values(telemetry, "labelstream_http_request_seconds_bucket")
    assert len(buckets) == len(LATENCY_BUCKETS) + 1


def test_refusals_and_items_are_counted(telemetry: Telemetry):
    telemetry.refused("too_many_requests")
    telemetry.items("label", "labelled", 3)
    telemetry.items("label", "labelled", 4)
    telemetry.items("rerank", "ranked", 0)
    assert values(telemetry, "labelstream_http_refused_total") == {("too_many_requests",): 1}
    items = values(telemetry, "labelstream_http_items_total")
    assert items == {("label", "labelled"): 7, ("rerank", "ranked"): 0}


def test_an_unexpected_error_is_a_500_and_goes_on(telemetry: Telemetry):
    with pytest.raises(RuntimeError, match="bug"), telemetry.request("/v1/rerank", "POST", "a"):
        raise RuntimeError("bug")
    assert values(telemetry, "labelstream_http_requests_total") == {("POST", "/v1/rerank", "500"): 1}
    assert values(telemetry, "labelstream_http_in_flight_requests") == {(): 0}


def test_a_caller_who_goes_away_is_no_error_of_ours(telemetry: Telemetry):
    with pytest.raises(asyncio.CancelledError), telemetry.request("/v1/rerank", "POST", "a"):
        raise asyncio.CancelledError
    assert values(telemetry, "labelstream_http_requests_total") == {("POST", "/v1/rerank", "499"): 1}


def test_made_up_methods_make_no_new_series(telemetry: Telemetry):
    for number in range(50):
        with telemetry.request("unmatched", f"BREW{number}", "a") as record:
            record.status = 405
    assert values(telemetry, "labelstream_http_requests_total") == {("other", "unmatched", "405"): 50}


def test_two_in_one_process_share_nothing():
    one, other = Telemetry(Settings(), "r1"), Telemetry(Settings(), "r2")
    one.refused("full")
    assert 'replica="r2"' in other.text()
    assert "full" not in other.text()


def test_every_metric_is_one_of_the_list(telemetry: Telemetry):
    with telemetry.request("/v1/labels", "POST", "a"):
        telemetry.refused("full")
        telemetry.items("label", "cached", 1)
    listed = {sample: metric for metric in HTTP_METRICS for sample in metric.samples}
    seen = set()
    for family in text_string_to_metric_families(telemetry.text()):
        for sample in family.samples:
            metric = listed[sample.name]
            assert set(sample.labels) - {"le"} == set(metric.labels)
            assert family.documentation == metric.help
            seen.add(sample.name)
    assert seen == set(listed)


def test_one_log_line_a_request_with_notes(telemetry: Telemetry, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="labelstream")
    with telemetry.request("/v1/labels", "POST", "abc") as record:
        record.status, record.token_name = 200, "shop"
        record.notes |= {"labelled": 2, "cached": 1, "errors": 0, "name": 5, "message": "x", "request_id": "y"}
    (line,) = caplog.records
    shown = {name: value for name, value in vars(line).items() if name not in RESERVED_FIELDS and name[0] != "_"}
    assert shown.pop("seconds") >= 0
    assert shown == {
        "route": "/v1/labels", "method": "POST", "status": 200, "token_name": "shop", "replica": "r1",
        "labelled": 2, "cached": 1, "errors": 0,
    }  # fmt: skip
    assert line.getMessage().startswith("POST /v1/labels 200 in ")


def test_probes_are_counted_but_not_logged(telemetry: Telemetry, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="labelstream")
    with telemetry.request("/readyz", "GET", "a") as record:
        record.status = 200
    assert values(telemetry, "labelstream_http_requests_total") == {("GET", "/readyz", "200"): 1}
    assert caplog.records == []


def small_app(telemetry: Telemetry) -> FastAPI:
    """An application whose requests go through telemetry, as the endpoint's do."""
    app = FastAPI()

    @app.middleware("http")
    async def measure(request: Request, call_next: Any) -> Response:
        headers = request.headers
        route, trace = request.url.path, headers.get("traceparent")
        with telemetry.request(route, request.method, headers["x-request-id"], trace) as record:
            answer: Response = await call_next(request)
            record.status, record.token_name = answer.status_code, "shop"
            record.notes["pairs"] = 3
        return answer

    @app.post("/v1/labels")
    async def labels(fail: bool = False) -> dict[str, str]:
        if fail:
            raise RuntimeError(PRODUCT)
        return {}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {}

    return app


async def ask(app: FastAPI) -> None:
    """A request within a trace, one with a broken header, one that fails, and a probe."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

        def headers(number: int, **more: str) -> dict[str, str]:
            return {"x-request-id": f"id-{number}", "authorization": f"Bearer {SECRET}", **more}

        body = {"product": PRODUCT}
        known = headers(1, traceparent=f"00-{TRACE}-{PARENT}-01")
        assert (await client.post("/v1/labels", headers=known, json=body)).status_code == 200
        await client.post("/v1/labels", headers=headers(2, traceparent="00-nonsense"), json=body)
        await client.post("/v1/labels?fail=true", headers=headers(3), json=body)
        await client.get("/healthz", headers=headers(4))


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with Collector() as collector:
        telemetry = Telemetry(Settings.load(observability={"otlp_endpoint": collector.url + "/"}), "r1")
        asyncio.run(ask(small_app(telemetry)))
        telemetry.close()
        yield collector


def test_spans_arrive_with_what_is_known_of_the_request(collected: Collector):
    first, second, failed = collected.spans
    assert attributes(first) == {
        "http.route": "/v1/labels", "http.request.method": "POST", "http.response.status_code": 200,
        "labelstream.request_id": "id-1", "labelstream.pairs": 3,
    }  # fmt: skip
    assert (first.name, first.kind) == ("POST /v1/labels", Span.SPAN_KIND_SERVER)
    assert first.end_time_unix_nano > first.start_time_unix_nano
    assert attributes(second)["labelstream.request_id"] == "id-2"
    assert attributes(failed)["http.response.status_code"] == 500
    assert [span.status.code for span in collected.spans] == [0, 0, Status.STATUS_CODE_ERROR]
    (resource,) = collected.resources
    assert (resource["service.name"], resource["service.instance.id"]) == ("labelstream-endpoint", "r1")


def test_a_span_goes_below_the_callers(collected: Collector):
    first, second, _ = collected.spans
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert second.trace_id.hex() != TRACE
    assert not second.parent_span_id


def test_no_secret_and_no_product_leaves_with_a_span(collected: Collector):
    told = json.dumps([str(span) for span in collected.spans])
    assert "id-3" in told
    assert SECRET not in told
    assert PRODUCT not in told


def test_without_a_collector_nothing_is_traced(telemetry: Telemetry):
    assert telemetry._traces is None
    telemetry.close()


def test_a_collector_that_does_not_answer_keeps_nobody_from_ending(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(traces, "EXPORT_TIMEOUT_S", 1.0)
    monkeypatch.setattr(traces, "CLOSE_S", 0.05)
    with SilentCollector() as collector:
        telemetry = Telemetry(Settings.load(observability={"otlp_endpoint": collector.url}), "r1")
        with telemetry.request("/v1/labels", "POST", "a"):
            pass
        telemetry.close()
        assert "the last spans may be lost" in caplog.text
    for thread in threading.enumerate():
        if thread.name == "close-traces":
            thread.join()
