"""POST /v1/rerank and /v2/rerank: documents in, their order out, as Cohere's and Jina's clients expect it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic_core import from_json

from labelstream.actors.endpoint.bodies import invalid, json_answer, parse
from labelstream.actors.endpoint.documents import Documents, shown
from labelstream.actors.endpoint.model_routes import ModelRoutes
from labelstream.actors.endpoint.openapi import json_body, responses
from labelstream.actors.endpoint.services import Ranking, Request
from labelstream.schemas.http import (
    FieldError,
    RerankModel,
    RerankRequest,
    RerankResponse,
    RerankResult,
)
from labelstream.schemas.product import Product

MODELS: tuple[RerankModel, ...] = get_args(RerankModel)


class Rerank(ModelRoutes):
    """Answers requests for an order."""

    def router(self) -> APIRouter:
        """The routes of it: Cohere's two clients ask at different paths."""
        router = APIRouter(tags=["models"])

        @router.post(
            "/v1/rerank",
            summary="Order documents by their relevance to a query",
            openapi_extra=json_body(RerankRequest),
            responses=responses(RerankResponse, work=True),
        )
        @router.post(
            "/v2/rerank",
            summary="The same, at the path of Cohere's ClientV2",
            openapi_extra=json_body(RerankRequest),
            responses=responses(RerankResponse, work=True),
        )
        async def rerank(http: HttpRequest) -> Response:
            """Best first. A document is a text, a product id of the catalogue, or a product."""
            return await self.workroom.answer(http, self._answer)

        return router

    async def _answer(self, body: bytes, request: Request) -> Response:
        asked = parse(RerankRequest, body)
        model, query, top_n = _model(asked.model), asked.query, asked.top_n
        sent = body if asked.return_documents else None
        request.notes["documents"] = len(asked.documents)
        with self.workroom.admission.items(len(asked.documents)):
            documents = self._documents(asked)
            del body, asked  # whatever else they hold is not kept while the models work
            ranking = await self.services.rerank(query, documents, request, model=model)
        self.telemetry.items("rerank", "ranked", len(documents))
        request.notes["model"] = ranking.model
        results = _best(ranking, top_n, from_json(sent)["documents"] if sent is not None else None)
        return json_answer(
            RerankResponse(id=request.id, model=ranking.model, model_version=ranking.version, results=results)
        )

    def _documents(self, asked: RerankRequest) -> list[str | Product]:
        self.limits.check_query(asked.query, "query")
        fields = list(dict.fromkeys(asked.rank_fields or ()))  # a name that comes twice would double the text
        return Documents(self.limits, fields).read(asked.documents)


def _model(name: str | None) -> RerankModel | None:
    for model in MODELS:
        if name == model:
            return model
    if name is None:
        return None
    message = f"there are {', '.join(MODELS)}; leave it out for the best that answers"
    raise invalid([FieldError(field="model", message=message)])


def _best(ranking: Ranking, top_n: int | None, sent: Sequence[Any] | None) -> list[RerankResult]:
    scores = ranking.scores
    order = sorted(range(len(scores)), key=lambda index: -scores[index])  # equal ones stay in the caller's order
    return [
        RerankResult(
            index=index,
            relevance_score=scores[index],
            document=None if sent is None else shown(sent[index]),
        )
        for index in order[:top_n]
    ]
