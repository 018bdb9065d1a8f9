"""labelstream serve: the HTTP endpoint, and the stream beside it."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Annotated, Any

import typer

from labelstream.commands.run import GIVEN_BACK, say_stopped, stop_signals
from labelstream.console import err
from labelstream.schemas.settings import Settings

LOOK_EVERY_S = 1.0


def serve(
    with_stream: Annotated[bool, typer.Option("--with-stream", help="Run the stream too, on the same models.")] = False,
) -> None:
    """Answer labels and rankings over HTTP, on the models of the settings. Ctrl-C or SIGTERM ends it."""
    settings = Settings.load()
    with ExitStack() as closing:
        given_back = _serve(settings, closing, with_stream=with_stream)
    if given_back:
        raise typer.Exit(GIVEN_BACK)


def _serve(settings: Settings, closing: ExitStack, *, with_stream: bool) -> int:
    from labelstream.actors.local_serving import serving

    err.print("starting Ray and loading the models …")
    served = closing.enter_context(serving(settings, with_stream=with_stream))
    stopping = closing.enter_context(stop_signals())
    err.print(f"answering at {served.url}   (documents: {served.url}/docs)")
    _wait(served, stopping)
    given_back: int = served.stop()
    say_stopped(given_back)
    return given_back


def _wait(served: Any, stopping: threading.Event) -> None:
    while not stopping.wait(LOOK_EVERY_S):
        failure = served.failure()
        if failure is not None:
            raise failure
