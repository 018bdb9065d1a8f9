"""labelstream run: the stream itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from labelstream.console import err, progress_bar
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.actors.application import Application, Progress
    from labelstream.actors.learning_watch import Learning
    from labelstream.actors.metrics import Observed
    from labelstream.actors.watch import Watch

LOOK_EVERY_S = 0.5
GIVEN_BACK = 3


def run(
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="Stop when there is nothing left to read, judge or resolve.")
    ] = False,
) -> None:
    """Read the log and the catalogue from Kafka, judge new pairs, write the tables. Ctrl-C or SIGTERM ends it."""
    settings = Settings.load()
    if run_stream(settings, until_drained=until_drained):
        raise typer.Exit(GIVEN_BACK)


def run_stream(settings: Settings, *, until_drained: bool) -> int:
    """Run the application until drained or told to stop.

    Args:
        settings: All settings.
        until_drained: End by itself when nothing is left to do.

    Returns:
        Number of batches that were given back unfinished.

    Raises:
        LabelstreamError: What cannot be mended.
    """
    from labelstream.actors.application import Application

    watched = Watched(settings)
    with ExitStack() as closing:
        if settings.observability.metrics_port is not None:
            closing.enter_context(_served_metrics(settings, watched))
        err.print("starting Ray and loading the models …")
        # The signals come after Ray, which puts handlers of its own in place when it starts.
        application = closing.enter_context(Application(settings))
        stopping = closing.enter_context(stop_signals())
        _watch(application, stopping, watched, until_drained=until_drained)
        given_back = application.stop()
    if stopping.is_set():
        say_stopped(given_back)
    return given_back


def say_stopped(given_back: int) -> None:
    """Say what became of the work under way.

    Args:
        given_back: Number of batches that were given back unfinished.
    """
    fate = f"{given_back} batches given back, to be read again" if given_back else "all batches in flight arrived"
    err.print(f"stopped: {fate}")


class Watched:
    """What the metrics are made of: the last look at the stream, and what is asked at a scrape.

    Args:
        settings: All settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.progress: Progress | None = None
        self.learning: Watch[Learning] | None = None

    def observe(self) -> Observed:
        """A look; safe from any thread."""
        from labelstream.actors.metrics import Observed
        from labelstream.actors.readiness import models_answer, pool_names, stream_answers
        from labelstream.actors.work_reports import work_reports

        progress = self.progress
        if progress is None or self.learning is None:
            return Observed(ready=False)
        labellers = progress.labellers
        numbers = labellers.numbers if labellers else ()
        work = work_reports(self._settings, numbers)
        ready = stream_answers(self._settings, progress) and models_answer(pool_names(self._settings, numbers), work)
        return Observed(ready, progress, work, learning=self.learning.value, labellers=labellers)


@contextmanager
def _served_metrics(settings: Settings, watched: Watched) -> Iterator[None]:
    from labelstream.actors.learning_watch import learning_watch, read_learning
    from labelstream.actors.metrics import StreamMetrics
    from labelstream.actors.metrics_server import metrics_server
    from labelstream.training.registry import Registry

    host, port = settings.observability.metrics_host, settings.observability.metrics_port
    watch = learning_watch(lambda: read_learning(settings.lake, Registry(settings.registry.folder)))
    with metrics_server(StreamMetrics(watched.observe), host, port or 0) as url, watch:
        watched.learning = watch
        err.print(f"metrics at {url}")
        yield


def _watch(application: Application, stopping: threading.Event, watched: Watched, *, until_drained: bool) -> None:
    with progress_bar() as bar:
        task = bar.add_task("records", total=None, note="")
        while not stopping.wait(LOOK_EVERY_S):
            progress = watched.progress = application.look()
            if progress.lake is not None and progress.lag is not None:
                done = progress.lake.totals["records"]
                bar.update(task, completed=done, total=done + progress.lag, note=_note(progress))
            if until_drained and application.is_drained(progress):
                return


def _note(progress: Progress) -> str:
    totals = progress.lake.totals if progress.lake else {}
    shown = ("labelled", "cached", "waiting", "dead_lettered")
    text = "  ".join(f"{name.replace('_', ' ')} {totals.get(name, 0):,}" for name in shown)
    if progress.labellers is not None and max(progress.labellers.wanted, progress.labellers.ready) > 1:
        text += f"  labellers {progress.labellers.ready} of {progress.labellers.wanted}"
    return text + (f"  restarts {progress.restarts}" if progress.restarts else "")


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal interrupts at once."""
    stopping = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        err.print(f"{signal.Signals(number).name}: finishing what is in flight (again to stop at once) …")
        stopping.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
