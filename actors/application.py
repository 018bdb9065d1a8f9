"""The whole stream as one application: actors started, watched, restarted and stopped."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from labelstream.actors.cluster import answer, answer_patiently, as_our_error, start_actor, start_ray
from labelstream.actors.ingest import IngestActor, ingest_options
from labelstream.actors.labeller_scaling import LabellerCount, LabellerScaling
from labelstream.actors.model_pool import MODEL_LOAD_S, ModelPool
from labelstream.actors.remote import first_line
from labelstream.actors.replica_watch import ReplicaWatch
from labelstream.actors.writer import LakeStatus, Writer, writer_options
from labelstream.schemas.errors import TransientError
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.settings import Settings
from labelstream.streaming.ingest import IngestReport
from labelstream.streaming.retry import Endurance
from labelstream.streaming.topics import EndOffsets

logger = logging.getLogger(__name__)

ASK_S = 10.0


@dataclass
class Progress:
    """A picture of the running application.

    Attributes:
        lake: Where the lake is; None while the writer is restarting.
        reports: One for each Ingest replica that answers.
        lag: Records in Kafka that the lake does not have; None while the broker does not answer.
        restarts: Actors that had to be started again.
        labellers: How many there should be, and which take work.
    """

    lake: LakeStatus | None = None
    reports: list[IngestReport] = field(default_factory=list)
    lag: int | None = None
    restarts: int = 0
    labellers: LabellerCount | None = None


class Application:
    """Starts the actors in order and looks after them; use as a context manager.

    Where Ray does not run yet in this process, it is joined or started, and left in the end.

    Args:
        settings: All settings.

    Attributes:
        watch: Over the Labellers that come and go; the first ones are restarted by the Ingests that wait for them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: ModelPool | None = None
        self._scaling: LabellerScaling | None = None
        self.watch = ReplicaWatch.of(settings)
        self._writer: Any = None
        self._ingests: list[Any] = []
        self._runs: dict[Any, int] = {}
        self._heard: dict[int, float] = {}
        self._restarts = 0
        self._unreachable = Endurance(settings.stream.give_up_s)
        self._closing = ExitStack()
        self._leaves_ray = False
        self.description: JudgeDescription | None = None
        self.cross_encoder_version = ""

    def __enter__(self) -> Self:
        kafka = self._settings.kafka
        # First of all: a broker or a topic that is not there is found out before the models are loaded.
        self._end_offsets = self._closing.enter_context(EndOffsets(kafka, kafka.input_topics))
        try:
            self._end_offsets()
            self._end_offsets.check(kafka.output_topics)
            if not ray.is_initialized():
                start_ray(self._settings)
                self._leaves_ray = True
            self._start_actors()
        except BaseException:
            self._shut_down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._shut_down()

    def _start_actors(self) -> None:
        settings = self._settings
        self._writer = start_actor(Writer, writer_options(settings), settings)
        self._pool = ModelPool(settings)
        answer_patiently(self._writer.status.remote, "writer", MODEL_LOAD_S, settings.stream.give_up_s)
        self.description = self._pool.judge()
        self._scaling = LabellerScaling(settings, self._pool, self.description, self.watch)
        self.cross_encoder_version = self._pool.cross_encoder_version()
        count = settings.stream.replicas
        self._ingests = [self._start_ingest(index, count) for index in range(count)]
        for index, ingest in enumerate(self._ingests):
            self._runs[ingest.run.remote()] = index

    def _start_ingest(self, index: int, count: int) -> Any:
        arguments = self._settings, (index, count), self.description, self.cross_encoder_version
        return start_actor(IngestActor, ingest_options(self._settings, index), *arguments)

    @property
    def pool(self) -> ModelPool:
        """The models; there once the application has started."""
        assert self._pool is not None
        return self._pool

    @property
    def scaling(self) -> LabellerScaling:
        """How many Labellers there are; there once the application has started."""
        assert self._scaling is not None
        return self._scaling

    def look(self) -> Progress:
        """Watch over the actors once, and say how things are.

        Raises:
            LabelstreamError: Something that cannot be mended here has ended an Ingest.
        """
        self._revive_ingests()
        reports = [self._report(index) for index in range(len(self._ingests))]
        lake, lag = self._lake_and_lag()
        self.watch.look()
        labellers = self.scaling.look(lag, lake.totals["records"] if lake else None)
        return Progress(lake, [report for report in reports if report], lag, self._restarts, labellers)

    def is_drained(self, progress: Progress) -> bool:
        """Whether there is nothing left to do: no lag, nothing in flight, no waiting event that could go on."""
        if progress.lake is None or progress.lag != 0 or len(progress.reports) < len(self._ingests):
            return False
        resolvers = [report for report in progress.reports if report.resolves]
        looked = all(report.resolved_at_snapshot >= progress.lake.snapshot for report in resolvers)
        return bool(resolvers) and looked and all(report.idle for report in progress.reports)

    def stop(self) -> int:
        """Stop reading, let what is in flight arrive.

        Returns:
            Number of batches given back unfinished; they are read again by the next run.
        """
        for ingest in self._ingests:
            ingest.stop.remote()
        patience = self._settings.stream.shutdown_s + ASK_S
        done, late = (
            ray.wait(list(self._runs), num_returns=len(self._runs), timeout=patience) if self._runs else ([], [])
        )
        self._runs.clear()
        return sum(_given_back(run) for run in done) + len(late)

    def _revive_ingests(self) -> None:
        done, _ = ray.wait(list(self._runs), num_returns=len(self._runs), timeout=0)
        for run in done:
            index = self._runs.pop(run)
            self._check_end(run, index)
            self._restarts += 1
            self._runs[self._ingests[index].run.remote()] = index

    @staticmethod
    def _check_end(run: Any, index: int) -> None:
        """A dead process is started again; an error that the loop itself raised is final."""
        try:
            ray.get(run)
        except RayTaskError as error:
            raise as_our_error(error, "ingest") from error
        except RayError as error:
            logger.warning("ingest %d died (%s) and is started again", index, first_line(error))
            time.sleep(0.2)  # Ray needs a moment to restart the process; do not spin on one that cannot start

    def _report(self, index: int) -> IngestReport | None:
        asked = self._ingests[index].report.remote(self.scaling.count.numbers)  # which tells it too, at every look
        try:
            report: IngestReport | None = ray.get(asked, timeout=ASK_S)
        except RayError:
            report = None
        else:
            # Before its loop runs there is nothing that could hang; afterwards the loop must turn.
            alive_at = time.time() if report is None else report.alive_at
            self._heard[index] = max(self._heard.get(index, 0.0), alive_at)
        if time.time() - self._heard.setdefault(index, time.time()) > self._settings.stream.hang_s:
            logger.warning("ingest %d hangs and is restarted", index)
            self._heard[index] = time.time()
            ray.kill(self._ingests[index], no_restart=False)
            return None
        return report

    def _lake_and_lag(self) -> tuple[LakeStatus | None, int | None]:
        lake: LakeStatus | None = None
        try:
            lake = answer(self._writer.status.remote(), "writer", ASK_S)
            lag = sum(self._end_offsets.lags(lake.offsets).values())
        except TransientError as error:
            self._unreachable.bear(error)
            return lake, None
        self._unreachable.recovered()
        return lake, lag

    def _shut_down(self) -> None:
        self._closing.close()
        if self._leaves_ray and self._settings.ray.address is None:
            ray.shutdown()
            return
        started = [*self._ingests, *(self._pool.actors if self._pool else ()), self._writer]
        for actor in started:
            if actor is not None:
                ray.kill(actor)
        if self._leaves_ray:
            ray.shutdown()


def _given_back(run: Any) -> int:
    try:
        return int(ray.get(run))
    except RayError:
        return 1
