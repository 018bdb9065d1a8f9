"""The Ray actor around one replica of the consumer loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, TypeVar

import ray

from labelstream.actors.actor_names import CROSS_ENCODER, LABELLER, WRITER, replica_name
from labelstream.actors.actor_process import log_as_an_actor, yield_to_models
from labelstream.actors.remote import RemoteWriter, actor_options
from labelstream.actors.replica_pool import RemoteJudge, RemoteScorer, ReplicaPool
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.settings import Settings
from labelstream.streaming.flight import Services
from labelstream.streaming.follower import StoreFollower
from labelstream.streaming.ingest import Ingest, IngestReport
from labelstream.streaming.kafka_client import make_consumer
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.outputs import Publisher, broker_patience
from labelstream.streaming.retry import Patience, patiently

Client = TypeVar("Client")

# The group of pods with a GPU on Kubernetes: KubeRay tells Ray the name of each group, as a label of its nodes.
_GPU_GROUP = "labellers"


class IngestActor:
    """One consumer of the group. ``run`` blocks; ``report`` and ``stop`` come in beside it.

    Args:
        settings: All settings.
        replica: (index, number of replicas).
        description: Who judges.
        cross_encoder_version: Which cross-encoder.
    """

    def __init__(
        self,
        settings: Settings,
        replica: tuple[int, int],
        description: JudgeDescription,
        cross_encoder_version: str,
    ) -> None:
        log_as_an_actor(settings)
        yield_to_models()
        self._settings = settings
        self._replica = replica
        self._description = description
        self._cross_encoder_version = cross_encoder_version
        self._stopping = threading.Event()
        self._ingest: Ingest | None = None
        self._judges: ReplicaPool | None = None

    def run(self) -> int:
        """Consume until stopped.

        Returns:
            Number of batches given back unfinished.

        Raises:
            LabelstreamError: What cannot be mended here.
        """
        settings = self._settings
        with closing(self._patiently(lambda: Publisher.connected(settings.kafka))) as publisher:
            grouped = settings.kafka.assignment == "group"
            consumer = self._patiently(lambda: make_consumer(settings.kafka, group=grouped))
            with LocalStore(settings.store.path, settings.store.max_bytes) as store:
                ingest = Ingest(settings, consumer, store, self._services(publisher), self._replica)
                return self._consume(ingest, store)

    def _consume(self, ingest: Ingest, store: LocalStore) -> int:
        with StoreFollower(self._settings, store, on_error=ingest.stop) as follower:
            self._wait_for_the_store(follower)
            self._ingest = ingest
            if self._stopping.is_set():
                ingest.stop()
            given_back = ingest.run()
            follower.check()
            return given_back

    def _patiently(self, connect: Callable[[], Client]) -> Client:
        """A broker that is away just when a replica is started again costs no more than one that goes away later."""
        return patiently(connect, self._settings.stream.give_up_s, self._stopping)

    def _wait_for_the_store(self, follower: StoreFollower) -> None:
        """With an empty store every event would have to wait for its product; like the gate, this is no guarantee."""
        until = time.monotonic() + self._settings.stream.catalogue_first_s
        while time.monotonic() < until and not self._stopping.is_set():
            if follower.has_begun.wait(0.1):
                return

    def report(self, labellers: Sequence[int] | None = None) -> IngestReport | None:
        """What it is doing; None before it has begun.

        Args:
            labellers: Numbers of those that take work by now; None for no news.
        """
        if self._judges is not None and labellers is not None:
            self._judges.use(self._settings.labeller.for_stream(labellers))
        return None if self._ingest is None else self._ingest.report

    def stop(self) -> None:
        """Ask ``run`` to come to an end."""
        self._stopping.set()
        if self._ingest is not None:
            self._ingest.stop()

    def _services(self, publisher: Publisher) -> Services:
        labeller, encoder, stream = self._settings.labeller, self._settings.encoder, self._settings.stream
        # By name: a restarted Ingest finds the others again, whoever started it.
        labellers, encoders = labeller.for_stream(range(labeller.replicas)), range(encoder.replicas_if_enabled)
        judges = self._judges = self._pool(LABELLER, labellers, labeller.answer_timeout_s)
        scorers = self._pool(CROSS_ENCODER, encoders, encoder.answer_timeout_s)
        writer = RemoteWriter(self._find(WRITER))
        return Services(
            judge=RemoteJudge(judges),
            description=self._description,
            scorer=RemoteScorer(scorers, self._cross_encoder_version) if encoder.enabled else None,
            writer=writer,
            publisher=publisher,
            judge_patience=Patience(LABELLER, labeller.answer_timeout_s, stream.give_up_s, judges.restart_silent),
            scorer_patience=Patience(CROSS_ENCODER, encoder.answer_timeout_s, stream.give_up_s, scorers.restart_silent),
            writer_patience=writer.patience(stream),
            publisher_patience=broker_patience(stream),
        )

    def _pool(self, kind: str, numbers: Iterable[int], answer_timeout_s: float) -> ReplicaPool:
        return ReplicaPool(kind, lambda number: self._find(replica_name(kind, number)), numbers, answer_timeout_s)

    def _find(self, name: str) -> Any:
        return ray.get_actor(name, namespace=self._settings.ray.namespace)


def ingest_options(settings: Settings, replica: int) -> dict[str, Any]:
    """Ray's options for one ``IngestActor``: on a cluster, replicas go to different machines as far as there are.

    By itself Ray keeps what wants no GPU off nodes with one, but not when it spreads: an Ingest that restarts would
    keep a GPU's pod from going.
    """
    spread = {"scheduling_strategy": "SPREAD", "label_selector": {"ray.io/node-group": f"!{_GPU_GROUP}"}}
    placement: dict[str, Any] = {} if settings.ray.address is None else spread
    return actor_options(settings, f"ingest-{replica}", max_concurrency=4, **placement)
