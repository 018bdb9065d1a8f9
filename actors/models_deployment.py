"""The deployment that owns the model actors, and the stream where it runs beside the endpoint."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import ray

from labelstream.actors.application import Application, Progress
from labelstream.actors.cluster import start_actor
from labelstream.actors.endpoint.logs import configure_logging
from labelstream.actors.label_keeper import LabelKeeper, LatePublisher
from labelstream.actors.labeller_scaling import LabellerScaling
from labelstream.actors.learning_watch import learning_watch, read_learning
from labelstream.actors.metrics import Observed, metrics_text
from labelstream.actors.metrics_server import work_reports
from labelstream.actors.model_pool import ModelPool
from labelstream.actors.on_demand_pool import PoolDescription
from labelstream.actors.ranker_actor import RankerActor, ranker_options
from labelstream.actors.remote import RemoteWriter, first_line
from labelstream.actors.replica_watch import ReplicaWatch
from labelstream.actors.writer import Writer, writer_options
from labelstream.schemas.errors import LabelstreamError, TerminalError
from labelstream.schemas.settings import Settings
from labelstream.streaming.periodic import Periodic
from labelstream.streaming.retry import Patience
from labelstream.training.registry import Registry

LOOK_EVERY_S = 0.5
PUBLISH_TIMEOUT_S = 120.0

_log = logging.getLogger(__name__)


class State(NamedTuple):
    """How the stream beside the endpoint is.

    Attributes:
        progress: Its last look; None before the first, and where there is no stream.
        failure: What has ended it.
    """

    progress: Progress | None
    failure: LabelstreamError | None


class Models:
    """Holds everything that there is once: the pool of models, the ranker, the stream, the writer.

    Args:
        settings: All settings.
        with_stream: Run the stream too.
    """

    async def __init__(self, settings: Settings, with_stream: bool) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logging(settings)
        self._settings = settings
        self._closing = ExitStack()
        self._application: Application | None = None
        self._keeper: LabelKeeper | None = None
        self._progress: Progress | None = None
        self._failure: LabelstreamError | None = None
        self._watching = Periodic("watch-stream", self._watch, LOOK_EVERY_S, at_once=False)
        try:
            await asyncio.to_thread(self._start, with_stream)
        except BaseException:
            self._closing.close()
            raise

    def _start(self, with_stream: bool) -> None:
        settings = self._settings
        ranker = start_actor(RankerActor, ranker_options(settings), settings)
        self._closing.callback(ray.kill, ranker)
        if with_stream:
            self._application = self._closing.enter_context(Application(settings))
            pool, self._scaling = self._application.pool, self._application.scaling
        else:
            pool = ModelPool(settings)
            self._closing.callback(pool.close)
            self._scaling = LabellerScaling(settings, pool, pool.judge())
        self._pool = PoolDescription(pool.judge(), pool.cross_encoder_version())
        self._replicas = self._closing.enter_context(ReplicaWatch.over(settings, pool, ranker))
        if settings.endpoint.keep_labels:
            self._keep_labels(with_stream)
        learning = learning_watch(lambda: read_learning(settings.lake, Registry(settings.registry.folder)))
        self._learning = self._closing.enter_context(learning)
        if with_stream or settings.labeller.most > settings.labeller.replicas:
            self._watching.start()

    def _keep_labels(self, with_stream: bool) -> None:
        settings, stream = self._settings, self._settings.stream
        if with_stream:
            actor = ray.get_actor("writer", namespace=settings.ray.namespace)
        else:
            actor = start_actor(Writer, writer_options(settings), settings)
            self._closing.callback(ray.kill, actor)
        writer = RemoteWriter(actor)
        publisher = LatePublisher(settings.kafka) if settings.kafka.labels_topic else None
        if publisher is not None:
            self._closing.callback(publisher.close)
        self._keeper = LabelKeeper(
            publisher,
            writer,
            broker_patience=Patience("broker", PUBLISH_TIMEOUT_S, stream.give_up_s),
            writer_patience=Patience("writer", stream.hang_s, stream.give_up_s, writer.restart),
        )
        self._closing.callback(self._keeper.close)

    def _watch(self) -> None:
        try:
            self._look()
        except LabelstreamError as error:
            _log.error("the stream has ended: %s: %s", type(error).__name__, error)
            self._end_with(error)
        except Exception as error:  # a stream that nobody watches must not seem well
            _log.exception("the stream cannot be watched any more")
            self._end_with(TerminalError(f"{type(error).__name__}: {first_line(error)}"))

    def _end_with(self, error: LabelstreamError) -> None:
        self._failure = error
        self._watching.end()

    def _look(self) -> None:
        if self._application is not None:
            self._progress = self._application.look()
        else:
            self._scaling.look(lag=0, records=0)  # by requests alone

    async def describe(self) -> PoolDescription:
        """Which models answer; there is an answer once they all do."""
        return self._pool

    async def labellers(self) -> int:
        """How many Labellers take work."""
        return self._scaling.count.ready

    async def state(self) -> State:
        """How the stream is."""
        return State(self._progress, self._failure)

    async def keep(self, labels: list[dict[str, Any]]) -> None:
        """Take rows of ``labels`` for the lake and the labels topic."""
        assert self._keeper is not None
        self._keeper.put(labels)

    async def metrics(self, store: Mapping[str, int]) -> str:
        """Prometheus text of everything behind the endpoint, and of the store that an endpoint replica sees."""
        return await asyncio.to_thread(self._metrics, store)

    def _metrics(self, store: Mapping[str, int]) -> str:
        labellers = self._scaling.count
        work = work_reports(self._settings, labellers.ready)
        ready = self._failure is None and sum(name.startswith("labeller") for name in work) == labellers.ready
        others_store = {} if self._progress is not None else store  # the stream tells of its own
        learning = self._learning.value
        keeper = None if self._keeper is None else self._keeper.report()
        return metrics_text(Observed(ready, self._progress, work, others_store, learning, keeper, labellers))

    async def stop(self) -> int:
        """Let the stream come to an end.

        Returns:
            Number of batches given back unfinished.
        """
        return await asyncio.to_thread(self._stop)

    def _stop(self) -> int:
        self._watching.close()  # a look at a stream that ends would start it again
        return self._application.stop() if self._application is not None else 0

    def check_health(self) -> None:
        """Ray Serve asks; a stream that has ended by itself is started again, with all of this.

        Raises:
            RuntimeError: The stream has ended, or an actor that answers requests is dead for good.
        """
        if self._failure is not None:
            raise RuntimeError(f"the stream has ended: {self._failure}")
        if self._replicas.gone:
            raise RuntimeError(f"{self._replicas.gone} is dead and does not start again")

    async def __del__(self) -> None:
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        try:
            self._stop()
            self._let_answers_out()
        finally:
            self._closing.close()

    def _let_answers_out(self) -> None:
        """Requests that came in before the end may still be with the models: wait until those do nothing."""
        until = time.monotonic() + self._settings.endpoint.deadline_s
        before: dict[str, float] = {}
        while time.monotonic() < until:
            reports = work_reports(self._settings, self._scaling.count.ready)
            busy = {name: report.busy_s for name, report in reports.items()}
            if busy == before:
                return
            before = busy
            time.sleep(LOOK_EVERY_S)
