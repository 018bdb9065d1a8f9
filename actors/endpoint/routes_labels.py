"""POST /v1/labels: pairs in, label records out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic import ValidationError

from labelstream.actors.endpoint.bodies import field_errors, invalid, json_answer, parse
from labelstream.actors.endpoint.model_routes import ModelRoutes
from labelstream.actors.endpoint.openapi import json_body, responses
from labelstream.actors.endpoint.problems import Refused, refusal_of
from labelstream.actors.endpoint.services import AskedPair, Labelled, Request
from labelstream.schemas.errors import BadRecord
from labelstream.schemas.http import LabelPair, LabelResult, LabelsRequest, LabelsResponse


class Labels(ModelRoutes):
    """Answers requests for labels."""

    def router(self) -> APIRouter:
        """The route of it."""
        router = APIRouter(tags=["models"])

        @router.post(
            "/v1/labels",
            summary="Judge pairs of query and product",
            openapi_extra=json_body(LabelsRequest),
            responses=responses(LabelsResponse, work=True),
        )
        async def labels(http: HttpRequest) -> Response:
            """Every pair gets the full label record: a probability for each relevance level, and scores.

            A pair that is wrong gets an error in its place and does not fail the rest.
            """
            return await self.workroom.answer(http, self._answer)

        return router

    async def _answer(self, body: bytes, request: Request) -> Response:
        asked = parse(LabelsRequest, body)
        request.notes["pairs"] = len(asked.pairs)
        with self.workroom.admission.items(len(asked.pairs)):
            pairs = [self._pair(index, pair) for index, pair in enumerate(asked.pairs)]
            good, cross_encoder = [pair for pair in pairs if isinstance(pair, AskedPair)], asked.cross_encoder
            del body, asked  # whatever else they hold is not kept while the models work
            answers = await self.services.label(good, request, cross_encoder=cross_encoder) if good else []
        results = _in_place(pairs, answers)
        self._count(results, request)
        return json_answer(LabelsResponse(id=request.id, results=results))

    def _pair(self, index: int, given: Any) -> AskedPair | Refused:
        above = ("pairs", index)
        try:
            pair = LabelPair.model_validate(given)
        except ValidationError as error:
            return invalid(field_errors(error, *above))
        try:
            self.limits.check_query(pair.query, *above, "query")
            self.limits.check_product(pair.product, *above, "product")
        except Refused as error:
            return error.with_traceback(None)  # which holds on to what was given
        named = pair.product_id if pair.product is None else pair.product
        assert named is not None  # LabelPair has seen to it
        return AskedPair(pair.query, named)

    def _count(self, results: Sequence[LabelResult], request: Request) -> None:
        cached = sum(result.cached is True for result in results)
        errors = sum(result.error is not None for result in results)
        counts = {"labelled": len(results) - cached - errors, "cached": cached, "error": errors}
        for outcome, count in counts.items():
            self.telemetry.items("label", outcome, count)
            request.notes[outcome] = count


def _in_place(pairs: Sequence[AskedPair | Refused], answers: Sequence[Labelled | BadRecord]) -> list[LabelResult]:
    """Put the answers to the good pairs between the errors of the bad ones."""
    rest = iter(answers)
    return [_result(index, pair if isinstance(pair, Refused) else next(rest)) for index, pair in enumerate(pairs)]


def _result(index: int, answer: Labelled | BadRecord | Refused) -> LabelResult:
    if isinstance(answer, Labelled):
        return LabelResult(index=index, label=answer.record, cached=answer.cached)
    if isinstance(answer, BadRecord) and answer.field:
        answer = BadRecord(str(answer), field=f"pairs.{index}.{answer.field}")
    refused = refusal_of(answer)
    return LabelResult(index=index, error=refused.kind.problem(refused.detail, errors=refused.errors))
