"""The whole stream as one application: actors started, watched, restarted and stopped."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from labelstream.actors.ingest import IngestActor, ingest_options
from labelstream.actors.labeller import Labeller, labeller_options
from labelstream.actors.remote import first_line
from labelstream.actors.writer import LakeStatus, Writer, writer_options
from labelstream.schemas.errors import LabelstreamError, ModelUnavailable, ModelUnusable, TransientError
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.settings import Settings
from labelstream.streaming.ingest import IngestReport
from labelstream.streaming.kafka_client import EndOffsets
from labelstream.streaming.retry import Endurance

logger = logging.getLogger(__name__)

MODEL_LOAD_S = 1800.0
ASK_S = 10.0


@dataclass
class Progress:
    """A picture of the running application.

    Attributes:
        lake: Where the lake is; None while the writer is restarting.
        reports: One for each Ingest replica that answers.
        lag: Records in Kafka that the lake does not have; None while the broker does not answer.
        restarts: Actors that had to be started again.
    """

    lake: LakeStatus | None = None
    reports: list[IngestReport] = field(default_factory=list)
    lag: int | None = None
    restarts: int = 0


class Application:
    """Starts the actors in order and looks after them; use as a context manager.

    Args:
        settings: All settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._labellers: list[Any] = []
        self._cross_encoders: list[Any] = []
        self._ingests: list[Any] = []
        self._runs: dict[Any, int] = {}
        self._heard: dict[int, float] = {}
        self._restarts = 0
        self._unreachable = Endurance(settings.stream.give_up_s)
        self._closing = ExitStack()
        self.description: JudgeDescription | None = None
        self.cross_encoder_version = ""

    def __enter__(self) -> Self:
        kafka = self._settings.kafka
        # First of all: a broker or a topic that is not there is found out before the models are loaded.
        ends = EndOffsets(kafka, [kafka.events_topic, kafka.products_topic])
        self._end_offsets = self._closing.enter_context(ends)
        try:
            self._end_offsets()
            start_ray(self._settings)
            self._start_actors()
        except BaseException:
            self._shut_down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._shut_down()

    def _start_actors(self) -> None:
        settings = self._settings
        self._writer = ray.remote(Writer).options(**writer_options(settings)).remote(settings)
        self._labellers = [
            ray.remote(Labeller).options(**labeller_options(settings, i)).remote(settings)
            for i in range(settings.labeller.replicas)
        ]
        if settings.encoder.enabled:
            from labelstream.actors.cross_encoder import CrossEncoderActor, cross_encoder_options

            self._cross_encoders = [
                ray.remote(CrossEncoderActor).options(**cross_encoder_options(settings, i)).remote(settings)
                for i in range(settings.encoder.replicas)
            ]
        self._patiently(self._writer.status.remote, "writer")
        self.description = self._same_version(self._labellers, "labeller")
        if self._cross_encoders:
            self.cross_encoder_version = self._same_version(self._cross_encoders, "cross-encoder").version
        count = settings.stream.replicas
        self._ingests = [self._start_ingest(index, count) for index in range(count)]
        for index, ingest in enumerate(self._ingests):
            self._runs[ingest.run.remote()] = index

    def _start_ingest(self, index: int, count: int) -> Any:
        actor = ray.remote(IngestActor).options(**ingest_options(self._settings, index))
        return actor.remote(self._settings, (index, count), self.description, self.cross_encoder_version)

    def _same_version(self, replicas: list[Any], name: str) -> Any:
        descriptions = [self._patiently(replica.describe.remote, name) for replica in replicas]
        if len(set(descriptions)) != 1:
            raise ModelUnusable(f"the {name} replicas hold different models; give all nodes the same folder")
        return descriptions[0]

    def _patiently(self, ask: Callable[[], Any], name: str) -> Any:
        """Ask an actor that may be killed and restarted while it starts."""
        transient = retry_if_exception_type(TransientError)
        stop = stop_after_delay(self._settings.stream.give_up_s)
        for attempt in Retrying(retry=transient, stop=stop, wait=wait_fixed(0.5), reraise=True):
            with attempt:
                return answer(ask(), name, MODEL_LOAD_S)
        raise AssertionError("unreachable: the last attempt raises")

    def look(self) -> Progress:
        """Watch over the actors once, and say how things are.

        Raises:
            LabelstreamError: Something that cannot be mended here has ended an Ingest.
        """
        self._revive_ingests()
        reports = [self._report(index) for index in range(len(self._ingests))]
        return Progress(self._lake(), [report for report in reports if report], self._lag(), self._restarts)

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
            raise _cause(error) from error
        except RayError as error:
            logger.warning("ingest %d died (%s) and is started again", index, first_line(error))
            time.sleep(0.2)  # Ray needs a moment to restart the process; do not spin on one that cannot start

    def _report(self, index: int) -> IngestReport | None:
        try:
            report: IngestReport | None = ray.get(self._ingests[index].report.remote(), timeout=ASK_S)
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

    def _lake(self) -> LakeStatus | None:
        try:
            status: LakeStatus = ray.get(self._writer.status.remote(), timeout=ASK_S)
        except (RayActorError, ray.exceptions.GetTimeoutError, TransientError):
            return None
        return status

    def _lag(self) -> int | None:
        try:
            offsets: dict[tuple[str, int], int] = answer(self._writer.offsets.remote(), "writer", ASK_S)
            lags = self._end_offsets.lags(offsets)
        except TransientError as error:
            self._unreachable.bear(error)
            return None
        self._unreachable.recovered()
        return sum(lags.values())

    def _shut_down(self) -> None:
        self._closing.close()
        if self._settings.ray.address is None:
            ray.shutdown()
            return
        for actor in [*self._ingests, *self._cross_encoders, *self._labellers, self._writer]:
            ray.kill(actor)


def start_ray(settings: Settings) -> None:
    """Join the cluster of the settings, or start one on this machine (loopback only)."""
    options: dict[str, Any] = {"namespace": settings.ray.namespace, "log_to_driver": settings.ray.log_to_driver}
    if settings.ray.address is None:
        # Ray would start the actors at nice 15, behind whatever else the machine does.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # glibc gives every thread an arena of its own, and each keeps what it once had.
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")
        options |= {
            "include_dashboard": False,
            "object_store_memory": settings.ray.object_store_bytes,
            "num_cpus": max(1, int(settings.labeller.replicas * settings.labeller.cpus)),
            "_node_ip_address": "127.0.0.1",
        }
    ray.init(address=settings.ray.address, logging_level="error", **options)


def answer(reference: Any, name: str, timeout_s: float) -> Any:
    """Wait for an actor's answer.

    Raises:
        LabelstreamError: What the actor raised; ``ModelUnusable`` where it could not even start;
            ``ModelUnavailable`` where it is dead or silent.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError as error:
        raise _cause(error) from error
    except RayActorError as error:
        if error.actor_init_failed:
            raise ModelUnusable(f"{name}: {_last_line(error)}") from error
        raise ModelUnavailable(f"{name}: {first_line(error)}") from error
    except RayError as error:
        raise ModelUnavailable(f"{name}: {first_line(error)}") from error


def _cause(error: RayTaskError) -> BaseException:
    cause = error.cause
    return cause if isinstance(cause, LabelstreamError) else error


def _last_line(error: BaseException) -> str:
    """Where an actor died in its constructor, Ray's message ends with the constructor's own error."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _given_back(run: Any) -> int:
    try:
        return int(ray.get(run))
    except RayError:
        return 1
