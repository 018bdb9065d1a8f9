"""Errors over HTTP: one list of their kinds, one shape (RFC 9457), never a stack trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from labelstream.schemas.errors import BadRecord, TransientError
from labelstream.schemas.http import FieldError, Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1  # a restarting model takes longer, but the caller's own back-off adds up
URN = "urn:labelstream:problem:"


class ProblemType(Enum):
    """Every kind of error that the endpoint answers with; names do not change between versions."""

    NOT_HTTP = ("not-http", 400, "This is no request of HTTP")
    NOT_JSON = ("not-json", 400, "The body is not JSON")
    UNAUTHORIZED = ("unauthorized", 401, "A bearer token is needed")
    NOT_FOUND = ("not-found", 404, "There is nothing here")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "This method is not allowed here")
    BODY_TOO_LARGE = ("body-too-large", 413, "The body is too large")
    TOO_MANY_ITEMS = ("too-many-items", 413, "More items than this server takes at once")
    MEDIA_TYPE = ("unsupported-media-type", 415, "The body has to be application/json")
    WRONG_HOST = ("wrong-host", 421, "This server does not answer to that name")
    INVALID_FIELDS = ("invalid-fields", 422, "Some fields are not as they should be")
    TEXT_TOO_LONG = ("text-too-long", 422, "A text is too long")
    BAD_RECORD = ("bad-record", 422, "This cannot be answered")
    HEADERS_TOO_LARGE = ("headers-too-large", 431, "The address or the headers are too large")
    INTERNAL = ("internal", 500, "Something went wrong here")
    FULL = ("full", 503, "The server has all the work that it can take")
    UNAVAILABLE = ("unavailable", 503, "A part of the server does not answer right now")
    TIMEOUT = ("timeout", 504, "It took too long")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    def problem(self, detail: str, *, instance: str | None = None, errors: Sequence[FieldError] = ()) -> Problem:
        """One error of this kind.

        Args:
            detail: What happened, and what to do about it.
            instance: The request's id.
            errors: One for each offending field.
        """
        return Problem(
            type=URN + self.slug,
            title=self.title,
            status=self.status,
            detail=detail,
            instance=instance,
            errors=list(errors),
        )


# Asking less, or later, may help; these are counted apart.
REFUSALS = frozenset(
    {
        *(ProblemType.UNAUTHORIZED, ProblemType.WRONG_HOST),
        *(ProblemType.BODY_TOO_LARGE, ProblemType.TOO_MANY_ITEMS, ProblemType.FULL),
    }
)


class Refused(Exception):
    """A request that ends with a problem; it never leaves the HTTP layer.

    Args:
        kind: Which.
        detail: What happened, and what to do about it.
        errors: One for each offending field.
        headers: To be sent with it.
    """

    def __init__(
        self,
        kind: ProblemType,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.errors, self.headers = kind, detail, errors, dict(headers or {})


def refusal_of(error: Exception) -> Refused:
    """What an error becomes over HTTP; one that nobody thought of says nothing but that it happened."""
    match error:
        case Refused():
            refused = error
        case BadRecord():
            errors = [FieldError(field=error.field, message=str(error))] if error.field else []
            refused = Refused(ProblemType.BAD_RECORD, str(error), errors=errors)
        case TransientError():
            refused = Refused(ProblemType.UNAVAILABLE, str(error))
        case TimeoutError():
            refused = Refused(ProblemType.TIMEOUT, "not done by the deadline; ask for less at once, or try again later")
        case HTTPException(status_code=HTTPStatus.NOT_FOUND):
            refused = Refused(ProblemType.NOT_FOUND, "no such path; /docs lists those that there are")
        case HTTPException(status_code=HTTPStatus.METHOD_NOT_ALLOWED):
            allowed = dict(error.headers or {})
            detail = f"allowed here: {allowed.get('Allow', '')}"
            refused = Refused(ProblemType.METHOD_NOT_ALLOWED, detail, headers=allowed)
        case _:
            refused = Refused(ProblemType.INTERNAL, "the log has more, under the request's id")
    return refused


def problem_response(refused: Refused, request_id: str | None) -> Response:
    """A problem as an answer.

    Args:
        refused: Which.
        request_id: The request's; None for what never became one.
    """
    headers: dict[str, Any] = dict(refused.headers)
    if refused.kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    problem = refused.kind.problem(refused.detail, instance=request_id, errors=refused.errors)
    return Response(problem.model_dump_json(), refused.kind.status, headers, MEDIA_TYPE)
