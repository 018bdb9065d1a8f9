"""What answers, whether it is ready, its figures, and its description."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from endpoints import FailingServices, InstantServices, client, endpoint_app, served
from fastapi import FastAPI
from patience import TIMEOUT
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from labelstream.actors.asked_pairs import unknown_product
from labelstream.actors.endpoint import routes_status
from labelstream.actors.endpoint.problems import URN, ProblemType
from labelstream.schemas.errors import ModelUnavailable
from labelstream.schemas.http import (
    Health,
    LabelsRequest,
    LabelsResponse,
    ModelsResponse,
    Problem,
    RerankRequest,
    RerankResponse,
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = client().get("/openapi.json").json()
    return found


def test_the_models_are_listed():
    answer = ModelsResponse.model_validate_json(client().get("/v1/models").content)
    assert [(model.id, model.version) for model in answer.models] == [("labeller", "model")]


def test_it_lives_whatever_the_models_do():
    assert client(FailingServices(ZeroDivisionError())).get("/healthz").json()["status"] == "ok"


def test_it_is_ready_when_nothing_is_missing():
    services = InstantServices()
    assert client(services).get("/readyz").status_code == 200
    services.missing = ["labeller-0", "ranker-0"]
    answer = client(services).get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "waiting_for": ["labeller-0", "ranker-0"]}
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_whoever_watches_may_ask_for_the_status_alone(path: str):
    with served(endpoint_app(InstantServices())) as url:
        answer = httpx.head(f"{url}{path}", timeout=TIMEOUT)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == httpx.get(f"{url}{path}", timeout=TIMEOUT).headers["content-length"]
        assert httpx.post(f"{url}{path}", timeout=TIMEOUT).headers["allow"] in {"GET, HEAD", "HEAD, GET"}


def test_it_is_not_ready_when_nobody_knows():
    assert client(FailingServices(ModelUnavailable("restarts"))).get("/readyz").status_code == 503


class CountingServices(InstantServices):
    """Counts how often it is asked whether it is ready, and says no, or fails."""

    def __init__(self, failure: Exception | None) -> None:
        super().__init__()
        self.looks, self.failure = 0, failure

    async def waiting_for(self) -> list[str]:
        self.looks += 1
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        return ["labeller-0"]


async def statuses(app: FastAPI, count: int) -> set[int]:
    """Of so many who ask at once whether it is ready."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        answers = await asyncio.gather(*(http.get("/readyz") for _ in range(count)))
    return {answer.status_code for answer in answers}


@pytest.mark.parametrize("failure", [None, ModelUnavailable("restarts")])
@pytest.mark.parametrize(("fresh_s", "looks"), [(1000.0, 1), (0.0, 20)])
def test_all_who_ask_at_once_share_one_look(
    fresh_s: float, looks: int, failure: Exception | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(routes_status, "READY_FRESH_S", fresh_s)
    services = CountingServices(failure)
    assert asyncio.run(statuses(endpoint_app(services), 20)) == {503}
    assert services.looks == looks


def test_the_metrics_are_those_of_all():
    app = client()
    app.get("/v1/models")
    answer = app.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"labelstream_http_requests", "labelstream_behind"} <= names


class SilentServices(InstantServices):
    """Never tells its metrics."""

    async def metrics(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("services", [FailingServices(ModelUnavailable("restarts")), SilentServices()])
def test_its_own_metrics_wait_for_nobody(services: InstantServices, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routes_status, "METRICS_PATIENCE_S", 0.05)
    answer = client(services).get("/metrics")
    assert answer.status_code == 200
    assert "labelstream_http_in_flight_requests" in answer.text
    assert "labelstream_ready 0.0" in answer.text


def test_paths_that_are_made_up_become_one_series():
    app = client()
    for path in ("/a", "/b", "/v1/labels/c"):
        app.get(path)
    series = 'labelstream_http_requests_total{method="GET",replica="replica-0",route="other",status="404"} 3.0'
    assert series in app.get("/metrics").text


def test_the_docs_need_nothing_from_elsewhere():
    app = client()
    page = app.get("/docs")
    assert "'unsafe-inline'" not in re.sub("style-src[^;]*", "", page.headers["content-security-policy"])
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(linked) == 3
    for name in linked:
        assert "//" not in name
        assert app.get(f"/{name}").status_code == 200


def test_the_document_is_whole(document: dict[str, Any]):
    text = json.dumps(document)
    references = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert references == set(document["components"]["schemas"])
    assert set(re.findall(r'"\$ref": "([^"]+)"', text)) == {f"#/components/schemas/{name}" for name in references}
    assert set(document["paths"]) == {
        "/v1/labels", "/v1/rerank", "/v2/rerank", "/v1/models", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip


ANSWERS: dict[str, type[BaseModel]] = {
    "/v1/labels": LabelsResponse, "/v1/rerank": RerankResponse, "/v2/rerank": RerankResponse,
    "/v1/models": ModelsResponse, "/healthz": Health, "/readyz": Health,
}  # fmt: skip


def example_of(document: dict[str, Any], path: str, status: str = "200") -> dict[str, Any]:
    (operation,) = document["paths"][path].values()
    found: dict[str, Any] = operation["responses"][status]["content"]["application/json"]["example"]
    return found


@pytest.mark.parametrize(("path", "model"), ANSWERS.items())
def test_every_answer_has_an_example(path: str, model: type[BaseModel], document: dict[str, Any]):
    example = example_of(document, path)
    whole = model.model_validate(example, extra="forbid")
    assert whole.model_dump(mode="json", exclude_unset=True) == example


def test_the_example_of_an_endpoint_that_is_not_ready_is_valid(document: dict[str, Any]):
    assert Health.model_validate(example_of(document, "/readyz", "503")).waiting_for


def test_the_example_of_labels_is_that_of_the_page(document: dict[str, Any]):
    page = (Path(__file__).parent.parent / "docs/http-api.md").read_text()
    shown = re.search(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert shown
    assert json.loads(shown[1]) == example_of(document, "/v1/labels")
    error = json.loads(shown[1])["results"][1]["error"]
    assert error["detail"] == error["errors"][0]["message"] == str(unknown_product("P1001"))


def test_the_id_of_a_request_is_in_the_document(document: dict[str, Any]):
    for operation in (each for operations in document["paths"].values() for each in operations.values()):
        (parameter,) = [each for each in operation["parameters"] if each["name"] == "X-Request-Id"]
        assert (parameter["in"], parameter["required"]) == ("header", False)
        assert re.search(parameter["schema"]["pattern"], "my-id")
        without = {
            status
            for status, response in operation["responses"].items()
            if "X-Request-Id" not in response.get("headers", {})
        }
        assert without == {"431"}


def test_its_examples_are_valid(document: dict[str, Any]):
    models = {"/v1/labels": LabelsRequest, "/v1/rerank": RerankRequest}
    for path, model in models.items():
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert model.model_validate(example)
        assert client().post(path, json=example).status_code == 200


def test_every_kind_of_problem_has_an_example(document: dict[str, Any]):
    responses = document["paths"]["/v1/labels"]["post"]["responses"]
    shown = {
        example["value"]["type"]
        for status, response in responses.items()
        for example in response["content"].get("application/problem+json", {}).get("examples", {}).values()
        if str(example["value"]["status"]) == status and Problem.model_validate(example["value"])
    }
    not_here = {ProblemType.NOT_FOUND, ProblemType.METHOD_NOT_ALLOWED}
    assert shown == {URN + kind.slug for kind in set(ProblemType) - not_here}


def test_it_says_where_a_token_is_needed(document: dict[str, Any]):
    strict = endpoint_app(InstantServices()).openapi()
    assert strict["paths"]["/v1/labels"]["post"]["security"] == [{"token": []}, {}]
    assert "security" not in document["paths"]["/healthz"]["get"]
