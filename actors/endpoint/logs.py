"""The one look of structured logs: a JSON object a line, with the id of the request that it is about."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from labelstream.schemas.settings import Settings

# Ray and vLLM add these to every record of their processes; nobody needs them on ours.
_OF_LIBRARIES = ("_ray_timestamp_ns", "vllm_process_name")
# Names that a log line's own fields must not have: those of logging's records, and what is always there.
RESERVED_FIELDS = frozenset((*RESERVED_ATTRS, *_OF_LIBRARIES)) | {"time", "level", "logger", "request_id"}

_request_id: ContextVar[str] = ContextVar("labelstream_request_id", default="")


@contextmanager
def request_context(request_id: str) -> Iterator[None]:
    """Whatever is logged inside, in this task, carries the request's id."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def add_request_id(record: logging.LogRecord) -> bool:
    """A logging filter that lets everything through, and says which request it belongs to."""
    if request_id := _request_id.get():
        record.request_id = request_id
    return True


def json_formatter() -> logging.Formatter:
    """One JSON object a line: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, and the record's extras."""
    return JsonFormatter(
        ("levelname", "name", "message"),
        rename_fields={"levelname": "level", "name": "logger"},
        reserved_attrs=[*RESERVED_ATTRS, *_OF_LIBRARIES],
        timestamp="time",
        defaults={"time": None},  # puts it first
        json_ensure_ascii=False,
    )


def text_formatter() -> logging.Formatter:
    """One line for people."""
    form = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"
    return logging.Formatter(form, defaults={"request_id": "-"})


def configure_logging(settings: Settings) -> None:
    """Set up logging in a process without a command line: a replica of Ray Serve, or an actor.

    Lines go to the process' real standard error: Serve may replace ``sys.stderr`` by its own log, which would wrap
    each line in another one. Ray and Serve have their own loggers and do not pass on what they say, so nothing is said
    twice; what they send to standard error gets our look. So does what nobody else handles: warnings of uvicorn, of
    asyncio and of Python, which would be plain text. Call it in the deployment's constructor, after Serve has set up
    its own; ``serve_logging`` is for where the deployment is defined.

    Args:
        settings: Where ``observability.log_format`` matters.
    """
    as_json = settings.observability.log_format == "json"
    handler = logging.StreamHandler(sys.__stderr__)
    handler.addFilter(add_request_id)
    handler.setFormatter(json_formatter() if as_json else text_formatter())
    ours, rays, everybody = logging.getLogger("labelstream"), logging.getLogger("ray"), logging.getLogger()
    for logger in (ours, rays, everybody):
        logger.handlers = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
    if as_json:
        logging.captureWarnings(True)
        for theirs in logging.getLogger("ray.serve").handlers:
            if type(theirs) is logging.StreamHandler:  # not their files, which are of a kind below it
                theirs.setFormatter(json_formatter())


def serve_logging(settings: Settings) -> dict[str, Any]:
    """Ray Serve's ``logging_config``: the look of its own files, and no access log beside ours."""
    encoding = "JSON" if settings.observability.log_format == "json" else "TEXT"
    return {"encoding": encoding, "enable_access_log": False}
