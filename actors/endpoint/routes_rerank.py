"""POST /v1/rerank and /v2/rerank: documents in, their order out, as Cohere's and Jina's clients expect it."""

from __future__ import annotations

from typing import Any, get_args

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic import ValidationError

from labelstream.actors.endpoint.bodies import field_errors, invalid, json_answer, parse
from labelstream.actors.endpoint.model_routes import ModelRoutes
from labelstream.actors.endpoint.openapi import json_body, responses
from labelstream.actors.endpoint.services import Ranking, Request
from labelstream.schemas.http import (
    FieldError,
    InlineProduct,
    RerankDocument,
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
        model = _model(asked.model)
        request.notes["documents"] = len(asked.documents)
        with self.workroom.admission.items(len(asked.documents)):
            self.limits.check_query(asked.query, "query")
            documents = [self._document(index, document) for index, document in enumerate(asked.documents)]
            ranking = await self.services.rerank(asked.query, documents, request, model=model)
        self.telemetry.items("rerank", "ranked", len(documents))
        request.notes["model"] = ranking.model
        results = _best(asked, ranking)
        return json_answer(
            RerankResponse(id=request.id, model=ranking.model, model_version=ranking.version, results=results)
        )

    def _document(self, index: int, document: RerankDocument) -> str | Product:
        place = ("documents", index)
        if document.product_id is not None:
            return document.product_id
        if document.product is not None:
            self.limits.check_product(document.product, *place, "product")
            return document.product
        assert document.text is not None  # RerankDocument has seen to it
        self.limits.check_document(document.text, *place)
        return _product_of(document.text, *place)


def _product_of(text: str, *place: int | str) -> Product:
    """A text is a product of which nothing but the title is known."""
    try:
        return InlineProduct(title=text)
    except ValidationError as error:
        errors = [
            FieldError(field=found.field.removesuffix(".title"), message=found.message)
            for found in field_errors(error, *place)
        ]
        raise invalid(errors) from None


def _model(name: str | None) -> RerankModel | None:
    for model in MODELS:
        if name == model:
            return model
    if name is None:
        return None
    message = f"there are {', '.join(MODELS)}; leave it out for the best that answers"
    raise invalid([FieldError(field="model", message=message)])


def _best(asked: RerankRequest, ranking: Ranking) -> list[RerankResult]:
    scores = ranking.scores
    order = sorted(range(len(scores)), key=lambda index: -scores[index])  # equal ones stay in the caller's order
    return [
        RerankResult(
            index=index,
            relevance_score=scores[index],
            document=_shown(asked.documents[index]) if asked.return_documents else None,
        )
        for index in order[: asked.top_n]
    ]


def _shown(document: RerankDocument) -> dict[str, Any]:
    return document.model_dump(mode="json", exclude_unset=True)
