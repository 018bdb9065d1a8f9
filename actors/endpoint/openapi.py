"""The OpenAPI document: what routes cannot say themselves, because they read and write bodies on their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from labelstream.actors.endpoint.bodies import JSON
from labelstream.actors.endpoint.doorkeeper import is_open
from labelstream.actors.endpoint.examples import EXAMPLES
from labelstream.actors.endpoint.front import REQUEST_ID
from labelstream.actors.endpoint.problems import MEDIA_TYPE, ProblemType
from labelstream.schemas.http import (
    Health,
    LabelPair,
    LabelsRequest,
    LabelsResponse,
    ModelsResponse,
    Problem,
    RerankDocument,
    RerankRequest,
    RerankResponse,
)

Responses = dict[int | str, dict[str, Any]]

REFERENCE = "#/components/schemas/{model}"
REQUESTS = (LabelPair, LabelsRequest, RerankDocument, RerankRequest)
ANSWERS = (Health, LabelsResponse, ModelsResponse, Problem, RerankResponse)

BEFORE_A_ROUTE = {ProblemType.NOT_HTTP, ProblemType.HEADERS_TOO_LARGE}
ALWAYS = BEFORE_A_ROUTE | {ProblemType.INTERNAL, ProblemType.UNAVAILABLE, ProblemType.TIMEOUT}
AT_THE_DOOR = {ProblemType.UNAUTHORIZED, ProblemType.WRONG_HOST}
WORK = ALWAYS | set(ProblemType) - {ProblemType.NOT_FOUND, ProblemType.METHOD_NOT_ALLOWED} - AT_THE_DOOR


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A body that is needed."""
    content: dict[str, Any] = {"schema": reference(model)}
    extra = model.model_config.get("json_schema_extra")
    if isinstance(extra, dict) and isinstance(examples := extra.get("examples"), list):
        content["example"] = examples[0]
    return {"requestBody": {"required": True, "content": {JSON: content}}}


def responses(answer: type[BaseModel], *, work: bool = False) -> Responses:
    """The answer and the problems of a route.

    Args:
        answer: What comes with 200.
        work: Whether the route takes a body and works on it.
    """
    found: Responses = {200: {"content": {JSON: {"schema": reference(answer)}}}}
    for kind in sorted(WORK if work else ALWAYS, key=lambda kind: kind.status):
        _add_problem(found, kind)
    return found


def reference(model: type[BaseModel]) -> dict[str, str]:
    """Where a model is described."""
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _add_problem(found: dict[Any, dict[str, Any]], kind: ProblemType) -> None:
    """One status may stand for several kinds of problems; each has an example."""
    if kind.status in found:
        found[kind.status]["description"] += f"; or: {kind.title}"
    else:
        content: dict[str, Any] = {"schema": reference(Problem), "examples": {}}
        found[kind.status] = {"description": kind.title, "content": {MEDIA_TYPE: content}}
    example = kind.problem("What happened here, and what to do about it.", instance="the-id-of-the-request")
    found[kind.status]["content"][MEDIA_TYPE]["examples"][kind.slug] = {"value": example.model_dump(mode="json")}
    if kind.status == ProblemType.FULL.status:
        found[kind.status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}


def document_with(app: FastAPI, *, anonymous: bool) -> Callable[[], dict[str, Any]]:
    """A maker of the document, to be set as ``app.openapi``.

    Args:
        app: With all its routes.
        anonymous: Whether a token may be left out.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, anonymous=anonymous)
        return app.openapi_schema

    return document


def _document(app: FastAPI, *, anonymous: bool) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    _, schemas = models_json_schema(
        [(model, "validation") for model in REQUESTS] + [(model, "serialization") for model in ANSWERS],
        ref_template=REFERENCE,
    )
    components = document.setdefault("components", {})
    components["schemas"] = schemas["$defs"]
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    security: list[dict[str, list[str]]] = [{"token": []}, *([{}] if anonymous else [])]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_security(operation, [] if is_open(path) else security)
            _add_request_id(operation)
            _add_example(operation)
    return document


def _add_security(operation: dict[str, Any], security: list[dict[str, list[str]]]) -> None:
    if not security:
        return
    operation["security"] = security
    _add_problem(operation["responses"], ProblemType.UNAUTHORIZED)
    if {} in security:
        _add_problem(operation["responses"], ProblemType.WRONG_HOST)
    header = {"schema": {"type": "string"}, "description": "How to show who asks."}
    operation["responses"][ProblemType.UNAUTHORIZED.status]["headers"] = {"WWW-Authenticate": header}


def _add_request_id(operation: dict[str, Any]) -> None:
    given = {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"}
    what = "The request's id, as in the logs; one is made up where this is left out, or cannot be one."
    parameter = {"name": "X-Request-Id", "in": "header", "required": False, "schema": given, "description": what}
    operation.setdefault("parameters", []).append(parameter)
    header = {"schema": given, "description": "The request's id."}
    for status, response in operation["responses"].items():
        if int(status) != ProblemType.HEADERS_TOO_LARGE.status:  # there it is not known yet
            response.setdefault("headers", {})["X-Request-Id"] = header


def _add_example(operation: dict[str, Any]) -> None:
    """Not before, because FastAPI leaves out what is null."""
    content = operation["responses"]["200"]["content"].get(JSON)
    for model, example in EXAMPLES.items():
        if content is not None and content["schema"] == reference(model):
            content["example"] = example
