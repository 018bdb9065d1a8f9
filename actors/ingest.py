"""The Ray actor around one replica of the consumer loop."""

from __future__ import annotations

import threading
from typing import Any

import ray

from labelstream.actors.remote import RemoteJudge, RemoteScorer, RemoteWriter, ReplicaPool, actor_options
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.settings import Settings
from labelstream.streaming.flight import Services
from labelstream.streaming.ingest import Ingest, IngestReport
from labelstream.streaming.kafka_client import make_consumer, make_producer
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.outputs import Publisher
from labelstream.streaming.retry import Patience

PUBLISH_TIMEOUT_S = 120.0


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
        self._settings = settings
        self._replica = replica
        self._description = description
        self._cross_encoder_version = cross_encoder_version
        self._stopping = threading.Event()
        self._ingest: Ingest | None = None

    def run(self) -> int:
        """Consume until stopped.

        Returns:
            Number of batches given back unfinished.

        Raises:
            LabelstreamError: What cannot be mended here.
        """
        settings = self._settings
        publisher = Publisher(settings.kafka, make_producer(settings.kafka))
        try:
            consumer = make_consumer(settings.kafka, group=settings.kafka.assignment == "group")
            with LocalStore(settings.store.path, settings.store.max_bytes) as store:
                self._ingest = Ingest(settings, consumer, store, self._services(publisher), self._replica)
                if self._stopping.is_set():
                    self._ingest.stop()
                return self._ingest.run()
        finally:
            publisher.close()

    def report(self) -> IngestReport | None:
        """What it is doing; None before it has begun."""
        return None if self._ingest is None else self._ingest.report

    def stop(self) -> None:
        """Ask ``run`` to come to an end."""
        self._stopping.set()
        if self._ingest is not None:
            self._ingest.stop()

    def _services(self, publisher: Publisher) -> Services:
        labeller, encoder, stream = self._settings.labeller, self._settings.encoder, self._settings.stream
        # By name: a restarted Ingest finds the others again, whoever started it.
        judges = ReplicaPool("labeller", self._actors("labeller", labeller.replicas), labeller.answer_timeout_s)
        scorers = ReplicaPool(
            "cross-encoder", self._actors("cross-encoder", encoder.replicas * encoder.enabled), encoder.answer_timeout_s
        )
        writer = RemoteWriter(ray.get_actor("writer", namespace=self._settings.ray.namespace))
        return Services(
            judge=RemoteJudge(judges),
            description=self._description,
            scorer=RemoteScorer(scorers, self._cross_encoder_version) if encoder.enabled else None,
            writer=writer,
            publisher=publisher,
            judge_patience=Patience("labeller", labeller.answer_timeout_s, stream.give_up_s, judges.restart_silent),
            scorer_patience=Patience(
                "cross-encoder", encoder.answer_timeout_s, stream.give_up_s, scorers.restart_silent
            ),
            writer_patience=Patience("writer", stream.hang_s, stream.give_up_s, writer.restart),
            publisher_patience=Patience("broker", PUBLISH_TIMEOUT_S, stream.give_up_s),
        )

    def _actors(self, kind: str, count: int) -> list[Any]:
        namespace = self._settings.ray.namespace
        return [ray.get_actor(f"{kind}-{index}", namespace=namespace) for index in range(count)]


def ingest_options(settings: Settings, replica: int) -> dict[str, Any]:
    """Ray's options for one ``IngestActor``."""
    return actor_options(settings, f"ingest-{replica}", max_concurrency=4)
