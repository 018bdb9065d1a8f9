"""The deployment that owns the model actors, and the stream where it runs beside the endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import ray

from labelstream.actors.actor_names import WRITER, ranker_name
from labelstream.actors.application import Application, Progress
from labelstream.actors.cluster import start_actor
from labelstream.actors.endpoint.logs import configure_logging
from labelstream.actors.label_keeper import LabelKeeper, LatePublisher
from labelstream.actors.labeller_scaling import LabellerScaling
from labelstream.actors.learning_watch import learning_watch, read_learning
from labelstream.actors.loopback import keep_replica_on_loopback
from labelstream.actors.metrics import Observed, metrics_text
from labelstream.actors.model_pool import ModelPool
from labelstream.actors.on_demand_pool import PoolDescription
from labelstream.actors.ranker_actor import RankerActor, ranker_options
from labelstream.actors.readiness import models_answer, pool_names, stream_answers
from labelstream.actors.remote import RemoteWriter
from labelstream.actors.replica_watch import ReplicaWatch, watched_pool
from labelstream.actors.upkeep import LOOK_EVERY_S, Upkeep
from labelstream.actors.work_reports import work_reports
from labelstream.actors.writer import Writer, writer_options
from labelstream.schemas.errors import LabelstreamError
from labelstream.schemas.settings import Settings
from labelstream.streaming.outputs import broker_patience
from labelstream.training.registry import Registry


class State(NamedTuple):
    """How everything behind the endpoint is.

    Attributes:
        progress: The last look at the stream; None before the first, and where there is none.
        failure: What has ended the stream, or the upkeep of the models where there is none.
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
        if settings.ray.address is None:
            keep_replica_on_loopback()
        self._settings = settings
        self._closing = ExitStack()
        self._application: Application | None = None
        self._keeper: LabelKeeper | None = None
        self._progress: Progress | None = None
        ended = "the stream has ended" if with_stream else "the models are not looked after any more"
        self._upkeep = Upkeep(ended, self._look)
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
            pool, self._watch = self._application.pool, self._application.watch
            self._scaling = self._application.scaling
        else:
            pool, self._watch = ModelPool(settings), ReplicaWatch.of(settings)
            self._closing.callback(pool.close)
            self._scaling = LabellerScaling(settings, pool, pool.judge(), self._watch)
        self._pool = PoolDescription(pool.judge(), pool.cross_encoder_version())
        needed = list(watched_pool(settings, pool, ranker))
        self._needed = frozenset(replica.name for replica in needed)
        self._watch.add(needed)
        if settings.endpoint.keep_labels:
            self._keep_labels(with_stream)
        learning = learning_watch(lambda: read_learning(settings.lake, Registry(settings.registry.folder)))
        self._learning = self._closing.enter_context(learning)
        self._upkeep.start()

    def _keep_labels(self, with_stream: bool) -> None:
        settings = self._settings
        if with_stream:
            actor = ray.get_actor(WRITER, namespace=settings.ray.namespace)
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
            broker_patience=broker_patience(settings.stream),
            writer_patience=writer.patience(settings.stream),
        )
        self._closing.callback(self._keeper.close)

    def _look(self) -> None:
        if self._application is not None:
            self._progress = self._application.look()
        else:
            self._watch.look()
            self._scaling.look(lag=0, records=0)  # by requests alone

    async def describe(self) -> PoolDescription:
        """Which models answer; there is an answer once they all do."""
        return self._pool

    async def labellers(self) -> tuple[int, ...]:
        """Numbers of the Labellers that take work."""
        return self._scaling.count.numbers

    async def state(self) -> State:
        """How things are."""
        return State(self._progress, self._upkeep.failure)

    async def keep(self, labels: list[dict[str, Any]]) -> None:
        """Take rows of ``labels`` for the lake and the labels topic."""
        assert self._keeper is not None
        self._keeper.put(labels)

    async def metrics(self, store: Mapping[str, int]) -> str:
        """Prometheus text of everything behind the endpoint, and of the store that an endpoint replica sees."""
        return await asyncio.to_thread(self._metrics, store)

    def _metrics(self, store: Mapping[str, int]) -> str:
        labellers = self._scaling.count
        work = work_reports(self._settings, labellers.numbers)
        names = [*pool_names(self._settings, labellers.numbers), ranker_name()]
        the_stream_too = self._application is None or stream_answers(self._settings, self._progress)
        ready = self._upkeep.failure is None and models_answer(names, work) and the_stream_too
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
        self._upkeep.close()  # a look at a stream that ends would start it again
        return self._application.stop() if self._application is not None else 0

    def check_health(self) -> None:
        """Ray Serve asks; a stream that has ended by itself is started again, with all of this.

        Raises:
            RuntimeError: The stream has ended, or an actor that nobody else replaces is dead for good.
        """
        self._upkeep.check()
        if gone := self._needed & self._watch.gone:
            raise RuntimeError(f"{min(gone)} is dead and does not start again")

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
            reports = work_reports(self._settings, self._scaling.count.numbers)
            busy = {name: report.busy_s for name, report in reports.items()}
            if busy == before:
                return
            before = busy
            time.sleep(LOOK_EVERY_S)
