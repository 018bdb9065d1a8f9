"""Bodies: from bytes to a checked request, with every complaint under the name of its field, and back to bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive

from labelstream.actors.endpoint.problems import ProblemType, Refused
from labelstream.schemas.complaint import what_is_wrong
from labelstream.schemas.http import FieldError

Body = TypeVar("Body", bound=BaseModel)
Place = tuple[int | str, ...]

JSON = "application/json"
MAX_ERRORS = 20  # a body of nothing but errors must not get an answer larger than itself
# pydantic tells all that is wrong or nothing; in a long body that can be a million things, and 9 s and 900 MiB.
MAX_FOUND = 2000  # of a body: even if every document is wrong, they are told
MAX_FOUND_IN_PART = 100  # of each of a thousand parts
MAX_DIGITS = 18  # of a declared length; Python refuses to read numbers of thousands
MAX_NAME = 64  # names of fields come from outside


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def read_body(headers: Headers, receive: Receive, max_bytes: int) -> bytes:
    """Take in a body of JSON, and no more of it than is allowed.

    Raises:
        Refused: It is too large (whether its length was declared or not), or says that it is not JSON.
        ClientGone: The client hung up before its end.
    """
    _check_media_type(headers)
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:MAX_DIGITS]) > max_bytes:
        raise _too_large(max_bytes)
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _check_media_type(headers: Headers) -> None:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    # A web page of somebody else can send forms and plain text here without asking, but not JSON.
    if media_type != JSON:
        raise Refused(ProblemType.MEDIA_TYPE, f"send the header Content-Type: {JSON}")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(ProblemType.MEDIA_TYPE, "send the body as it is, without Content-Encoding")


def _too_large(max_bytes: int) -> Refused:
    return Refused(ProblemType.BODY_TOO_LARGE, f"more than {max_bytes} bytes; send it in parts")


def parse(model: type[Body], body: bytes) -> Body:
    """Check a body.

    Its depth is bounded by the parser, at 200 levels.

    Raises:
        Refused: It is not JSON, or not of this model; the fields are named.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() == 1 and (only := _details(error)[0])["type"] == "json_invalid":
            raise Refused(ProblemType.NOT_JSON, only["msg"]) from None
        raise invalid(field_errors(error)) from None


def field_errors(error: ValidationError, *above: int | str) -> list[FieldError]:
    """What pydantic complains of, each under its dotted path; of many the first, of very many only that they are.

    Args:
        error: Whose complaints.
        above: Where the checked thing lies in the body; nothing for the body itself.
    """
    count = error.error_count()
    if count > (MAX_FOUND_IN_PART if above else MAX_FOUND):
        message = f"{count:,} things are wrong here, too many to name; send a part of it to see which"
        return [FieldError(field=dotted(above), message=message)]
    return [
        FieldError(field=dotted((*above, *detail["loc"])), message=what_is_wrong(detail))
        for detail in _details(error)[:MAX_ERRORS]
    ]


def _details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def invalid(errors: Sequence[FieldError]) -> Refused:
    """The refusal of what has such errors."""
    said = "; ".join(f"{error.field}: {error.message}" if error.field else error.message for error in errors)
    return Refused(ProblemType.INVALID_FIELDS, said, errors=errors)


def json_answer(answer: BaseModel, status: int = 200) -> Response:
    """An answer as it is sent."""
    return Response(answer.model_dump_json(), status, media_type=JSON)


def dotted(place: Iterable[int | str]) -> str:
    """A path in the body, such as ``pairs.3.query``."""
    return ".".join(str(part)[:MAX_NAME] for part in place)
