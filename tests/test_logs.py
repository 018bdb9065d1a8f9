"""Structured logs: one JSON object a line, of the command line and of a replica of Ray Serve."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray._private.log import PlainRayHandler
from starlette.types import Receive, Scope, Send

from labelstream.actors.endpoint.listener import Listener
from labelstream.actors.endpoint.logs import (
    RESERVED_FIELDS,
    add_request_id,
    configure_logging,
    json_formatter,
    request_context,
    serve_logging,
    text_formatter,
)
from labelstream.schemas.settings import Settings
from labelstream.streaming.broker_node import free_ports

JSON = Settings.load(observability={"log_format": "json"})


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Set-up is for a process of its own; here it must leave no trace."""
    loggers = [logging.getLogger(name) for name in ("labelstream", "ray.serve", "ray", "root")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    logging.captureWarnings(False)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def a_record(message: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("labelstream.test").makeRecord(
        "labelstream.test", logging.WARNING, "file.py", 1, message, (), None, extra=extra
    )


def test_a_line_has_time_level_logger_message_and_fields():
    told = json.loads(json_formatter().format(a_record("déjà vu", pairs=3, route="/v1/labels")))
    moment = datetime.fromisoformat(told.pop("time"))
    assert moment.utcoffset() == timedelta(0)
    assert told == {
        "level": "WARNING", "logger": "labelstream.test", "message": "déjà vu", "pairs": 3, "route": "/v1/labels",
    }  # fmt: skip


def test_what_libraries_add_to_every_record_is_no_field():
    record = a_record("m")
    vars(record).update(_ray_timestamp_ns=1, vllm_process_name="MainProcess")
    told = json.loads(json_formatter().format(record))
    assert told.keys() == {"time", "level", "logger", "message"}


@given(st.text(), st.dictionaries(st.text(min_size=1).filter(lambda name: name not in RESERVED_FIELDS), st.floats()))
def test_whatever_is_said_stays_on_one_line(message: str, extra: dict[str, float]):
    line = json_formatter().format(a_record(message, **{f"x{name}": value for name, value in extra.items()}))
    assert "\n" not in line
    assert json.loads(line)["message"] == message


def test_an_error_keeps_its_traceback_on_the_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    line = json_formatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["exc_info"].startswith("Traceback")


def test_text_for_people_has_the_request_too():
    assert "WARNING labelstream.test [-] hello" in text_formatter().format(a_record("hello"))
    assert "[abc] hello" in text_formatter().format(a_record("hello", request_id="abc"))


def test_each_task_has_its_own_request_id():
    seen = []

    async def work(request_id: str, both: asyncio.Barrier) -> None:
        with request_context(request_id):
            await both.wait()
            record = a_record("x")
            add_request_id(record)
            seen.append(record.request_id)  # type: ignore[attr-defined]

    async def main() -> None:
        both = asyncio.Barrier(2)
        await asyncio.gather(work("one", both), work("two", both))

    asyncio.run(main())
    assert sorted(seen) == ["one", "two"]
    record = a_record("x")
    assert add_request_id(record)
    assert not hasattr(record, "request_id")


def test_a_replica_says_it_once_and_as_json(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    serve = logging.getLogger("ray.serve")
    monkeypatch.setattr(serve, "propagate", False)
    serve.addHandler(logging.StreamHandler(stream))  # as Serve does
    configure_logging(JSON)
    configure_logging(JSON)  # a second time changes nothing
    with request_context("abc"):
        logging.getLogger("labelstream.actors").info("ours")
    serve.warning("theirs")
    ours, theirs = lines(stream.getvalue())
    assert (ours["message"], ours["request_id"], ours["level"]) == ("ours", "abc", "INFO")
    assert (theirs["message"], theirs["logger"]) == ("theirs", "ray.serve")


class TooLate(Exception):
    """What an application that has answered already cannot tell its client any more."""


async def fails_after_its_answer(scope: Scope, _: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise TooLate


def test_what_libraries_say_in_a_replica_is_json_too(monkeypatch: pytest.MonkeyPatch):
    async def main() -> None:
        listener = Listener(fails_after_its_answer, "127.0.0.1", port, closing_s=1)
        await listener.start()
        for said in (b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            await reader.read()
            writer.close()
            await writer.wait_closed()
        await listener.close()

    (port,) = free_ports(1)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    logging.getLogger("ray").addHandler(PlainRayHandler())  # as Ray does
    logging.getLogger("ray").setLevel(logging.INFO)
    monkeypatch.setattr(logging.getLogger("ray"), "propagate", False)
    configure_logging(JSON)
    asyncio.run(main())
    logging.getLogger("ray").warning("of Ray")
    with warnings.catch_warnings():
        warnings.showwarning("of Python", UserWarning, "file.py", 1)
    told = lines(stream.getvalue())
    assert [line["logger"] for line in told] == ["uvicorn.error", "uvicorn.error", "ray", "py.warnings"]
    assert told[0]["message"] == "Invalid HTTP request received."
    assert TooLate.__name__ in told[1]["exc_info"]


def test_a_replica_can_talk_to_people(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    configure_logging(Settings())
    logging.getLogger("labelstream.actors").info("ours")
    assert stream.getvalue().endswith("INFO labelstream.actors [-] ours\n")


@pytest.mark.parametrize(("settings", "encoding"), [(JSON, "JSON"), (Settings(), "TEXT")])
def test_serve_takes_its_logging_configuration(settings: Settings, encoding: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own, when it is imported
        from ray.serve.schema import LoggingConfig
    config = LoggingConfig(**serve_logging(settings))
    assert (config.encoding, config.enable_access_log) == (encoding, False)


def run_labelstream(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labelstream", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"LABELSTREAM_OBSERVABILITY_LOG_FORMAT": "json"} | environment,
    )


def test_what_ends_a_command_is_an_error_line():
    ended = run_labelstream("status", LABELSTREAM_ENDPOINT_PORT="-1")
    (line,) = lines(ended.stderr)
    assert (line["level"], line["error"], ended.returncode) == ("ERROR", "SettingsError", 1)
    assert "LABELSTREAM_ENDPOINT_PORT" in line["message"]


PRINTS = """
import logging
from labelstream.console import err, out, progress_bar, set_up_logging
set_up_logging(verbose=False)
err.print("a long message " + "x" * 300, "…")
with progress_bar() as bar:
    bar.advance(bar.add_task("records", total=1, note=""))
logging.getLogger("labelstream.streaming").warning("a warning")
logging.getLogger("labelstream.streaming").info("not shown without --verbose")
out.print("a result")
"""


def test_everything_on_standard_error_is_json():
    ended = subprocess.run(
        [sys.executable, "-c", PRINTS], capture_output=True, text=True, check=True, timeout=120,
        env=os.environ | {"LABELSTREAM_OBSERVABILITY_LOG_FORMAT": "json"},
    )  # fmt: skip
    message, warning = lines(ended.stderr)
    assert message["message"] == "a long message " + "x" * 300 + " …"
    assert (message["level"], message["logger"]) == ("INFO", "labelstream.command")
    assert (warning["level"], warning["message"]) == ("WARNING", "a warning")
    assert ended.stdout == "a result\n"
