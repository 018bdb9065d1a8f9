"""Errors have one shape, name what to do, and give nothing away."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import httpx
import pytest
from endpoints import FailingServices, InstantServices, client, inline, local_client
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from labelstream.actors.endpoint import bodies
from labelstream.actors.endpoint.app import make_app
from labelstream.actors.endpoint.bodies import MAX_FOUND
from labelstream.actors.endpoint.problems import URN, ProblemType
from labelstream.actors.endpoint.telemetry import Telemetry
from labelstream.schemas.errors import BadRecord, LakeUnavailable, ModelUnavailable
from labelstream.schemas.http import Problem
from labelstream.schemas.settings import Settings

JSON = {"Content-Type": "application/json"}
BODIES = {"/v1/labels": {"pairs": [inline()]}, "/v1/rerank": {"query": "mouse", "documents": ["a"]}}


def problem_of(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert problem.status == answer.status_code
    assert problem.instance == answer.headers["x-request-id"]
    return problem


def test_every_kind_has_a_name_of_its_own():
    slugs = [kind.slug for kind in ProblemType]
    assert len(set(slugs)) == len(slugs)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) for slug in slugs)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRecord("model: not here", field="model"), ProblemType.BAD_RECORD),
        (ModelUnavailable("labeller-0 restarts"), ProblemType.UNAVAILABLE),
        (LakeUnavailable("the disk is full"), ProblemType.UNAVAILABLE),
        (TimeoutError(), ProblemType.TIMEOUT),
        (ZeroDivisionError("by zero"), ProblemType.INTERNAL),
    ],
)
def test_errors_of_the_services(path: str, error: Exception, kind: ProblemType):
    answer = client(FailingServices(error)).post(path, json=BODIES[path])
    problem = problem_of(answer)
    assert (problem.type, problem.status) == (URN + kind.slug, kind.status)
    assert ("retry-after" in answer.headers) == (kind.status == 503)
    assert [found.field for found in problem.errors] == (["model"] if kind is ProblemType.BAD_RECORD else [])


def test_what_nobody_thought_of_is_logged_and_not_told(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR):
        answer = client(FailingServices(ZeroDivisionError("secret"))).get(
            "/v1/models", headers={"X-Request-Id": "id-1"}
        )
    assert problem_of(answer).status == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    (record,) = [record for record in caplog.records if "id-1" in record.getMessage()]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_a_path_that_there_is_not():
    assert problem_of(client().get("/v1/nothing")).type == URN + "not-found"
    assert problem_of(client().post("/v1/labels/", json={})).type == URN + "not-found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/v1/labels", "POST"), ("DELETE", "/v1/models", "GET")]
)
def test_a_method_that_is_not_allowed(method: str, path: str, allowed: str):
    answer = client().request(method, path)
    assert problem_of(answer).type == URN + "method-not-allowed"
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("given_id", ["id-1", "!" * 128, "~"])
def test_the_request_id_comes_back(given_id: str):
    services = InstantServices()
    answer = client(services).post("/v1/labels", json={"pairs": [inline()]}, headers={"X-Request-Id": given_id})
    assert answer.headers["x-request-id"] == answer.json()["id"] == services.requests[0].id == given_id


@pytest.mark.parametrize("given_id", ["", "a b", "a\tb", "!" * 129, b"\xe9"])
def test_a_request_id_that_cannot_be_one_is_replaced(given_id: str | bytes):
    answer = client().get("/healthz", headers={"X-Request-Id": given_id})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize(("given_id", "sent"), [("id-1", False), ("a b", True)])
def test_an_id_that_a_proxy_sends_back_is_not_sent_twice(given_id: str, sent: bool):
    options = Settings.load(endpoint={"allow_anonymous": True})
    app = make_app(options, InstantServices(), Telemetry(options, "replica-0"), id_is_echoed=True)
    answer = local_client(app).get("/healthz", headers={"X-Request-Id": given_id})
    assert ("x-request-id" in answer.headers) == sent


def test_very_many_errors_are_not_all_told():
    answer = client().post("/v1/labels", json={"pairs": [], **{f"{'x' * 1000}{i}": 1 for i in range(1000)}})
    assert problem_of(answer).errors
    assert len(answer.content) < 10_000


MISSPELT = {f"x{i}": 1 for i in range(MAX_FOUND + 1)}
NO_TEXTS: dict[str, list[str]] = {name: [] for name in MISSPELT}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/labels", {"pairs": [], **MISSPELT}, ""),
        ("/v1/labels", {"pairs": [{"query": "mouse", "product_id": "P1", **MISSPELT}]}, "pairs.0"),
        ("/v1/rerank", {"query": "mouse", "documents": [{"product": {"title": "a", "attributes": NO_TEXTS}}]}, ""),
    ],
)
def test_a_million_errors_are_counted_and_not_looked_at(
    path: str, body: dict[str, object], field: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bodies, "_details", lambda _: pytest.fail("a list of all errors was made"))
    answer = client().post(path, json=body)
    problem = answer.json() if answer.is_error else answer.json()["results"][0]["error"]
    assert problem["type"] == URN + "invalid-fields"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert "too many to name" in problem["detail"]


@pytest.fixture(scope="module")
def shared() -> TestClient:
    return client()


names = st.sampled_from(["pairs", "query", "product", "product_id", "title", "documents", "text", "top_n", "model"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | names, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(path=st.sampled_from(sorted(BODIES)), body=st.binary(max_size=200))
@example(path="/v1/labels", body=b'{"pairs":[{"query":"\\ud800","product_id":"p"}]}')
@example(path="/v1/labels", body=b'{"pairs":[{"query":"a","product_id":' + b"9" * 5000 + b"}]}")
@example(path="/v1/labels", body=b'{"pairs":[{"query":"a","product":{"title":"t","x":NaN,"price":Infinity}}]}')
@example(
    path="/v1/rerank", body=b'{"query":"a","documents":[{"product":{"title":"t","x":NaN}}],"return_documents":true}'
)
@example(path="/v1/rerank", body=b'\xef\xbb\xbf{"query":"a","documents":["b"]}')
@example(path="/v1/rerank", body=b'{"query":1e999,"documents":["b"],"top_n":1e30}')
def test_any_bytes_have_an_answer(shared: TestClient, path: str, body: bytes):
    answer = shared.post(path, content=body, headers=JSON)
    assert answer.status_code in {200, 400, 422}
    assert answer.status_code == 200 or problem_of(answer)


@settings(max_examples=250)
@given(path=st.sampled_from(sorted(BODIES)), body=st.dictionaries(names, json_values, max_size=4))
def test_any_json_has_an_answer(shared: TestClient, path: str, body: dict[str, object]):
    answer = shared.post(path, content=json.dumps(body).encode(), headers=JSON)
    assert answer.status_code in {200, 400, 422}
    assert answer.status_code == 200 or problem_of(answer).detail


def test_every_kind_is_on_the_page():
    page = (Path(__file__).parent.parent / "docs/http-api.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", page, re.MULTILINE)
    assert rows == [(kind.slug, str(kind.status)) for kind in ProblemType]
