"""A batch in flight: judged, finished, published, committed, each step without blocking."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.scale import Floats
from labelstream.streaming.batch import Batch, BatchBuilder
from labelstream.streaming.commit import Commit, Receipt
from labelstream.streaming.retry import Patience, RetriedCall
from labelstream.streaming.waiting_rows import Resolvable

T = TypeVar("T")


class Judge(Protocol):
    """Judges pairs, somewhere else."""

    def judge(self, queries: Sequence[str], products: Sequence[str]) -> Future[Judgements]:
        """Start judging; the future may raise ``TransientError``."""
        ...


class Scorer(Protocol):
    """Scores pairs with the cross-encoder, somewhere else."""

    version: str

    def score(self, queries: Sequence[str], products: Sequence[str]) -> Future[Floats]:
        """Start scoring; the future may raise ``TransientError``."""
        ...


class Writer(Protocol):
    """Writes the lake, somewhere else."""

    def commit(self, commit: Commit) -> Future[Receipt]:
        """Start a commit; may be asked again for the same batch."""
        ...

    def offsets(self) -> Future[dict[tuple[str, int], int]]:
        """The lake's next offset of each partition."""
        ...

    def resolvable(self, limit: int) -> Future[Resolvable]:
        """Waiting events that can be joined by now."""
        ...


class Publishes(Protocol):
    """Sends a commit's labels and dead letters to Kafka."""

    def publish(self, commit: Commit) -> Future[None]:
        """Start sending; done when the brokers have it all."""
        ...


@dataclass(frozen=True)
class Services:
    """Everything that a batch needs on its way, and how patient to be with each."""

    judge: Judge
    description: JudgeDescription
    scorer: Scorer | None
    writer: Writer
    publisher: Publishes
    judge_patience: Patience
    scorer_patience: Patience
    writer_patience: Patience
    publisher_patience: Patience


class Flight:
    """One batch on its way into the lake.

    Args:
        batch: A prepared batch.
        builder: Finishes it.
        services: Models, broker and lake.
        levels: Number of label levels.
        on_answer: Called from any thread when it may go one step further.
    """

    def __init__(
        self,
        batch: Batch,
        builder: BatchBuilder,
        services: Services,
        levels: int,
        on_answer: Callable[[object], None] = lambda _: None,
    ) -> None:
        self.batch = batch
        self.began = time.monotonic()
        self._builder = builder
        self._services = services
        self._levels = levels
        self._on_answer = on_answer
        queries = [pair.query for pair in batch.pairs]
        products = [pair.product.text for pair in batch.pairs]
        self._judging: RetriedCall[Judgements] | None = None
        if queries:
            self._judging = self._call(lambda: services.judge.judge(queries, products), services.judge_patience)
        self._scoring: RetriedCall[Floats] | None = None
        if services.scorer is not None and queries:
            scorer = services.scorer
            self._scoring = self._call(lambda: scorer.score(queries, products), services.scorer_patience)
        self._commit: Commit | None = None
        self._publishing: RetriedCall[None] | None = None
        self._committing: RetriedCall[Receipt] | None = None

    def _call(self, call: Callable[[], Future[T]], patience: Patience) -> RetriedCall[T]:
        return RetriedCall(call, patience, on_answer=self._on_answer)

    def is_judged(self) -> bool:
        """Whether the models are done with it."""
        waiting = [call for call in (self._judging, self._scoring) if call is not None]
        answers = [call.poll() for call in waiting]  # every call must be polled, so that each can retry
        return all(answers)

    def advance(self) -> Receipt | None:
        """Go one step further if the last one is done; only the oldest batch in flight may be advanced.

        Returns:
            The lake's receipt when the batch has arrived.

        Raises:
            StaleBatch: Its offsets are somebody else's by now.
            TransientError: Somebody has been unavailable for too long.
        """
        if self._committing is not None:
            return self._committing.result() if self._committing.poll() else None
        if self._publishing is not None:
            if self._publishing.poll():
                self._start_commit()
        elif self.is_judged():
            self._start_publishing()
        return None

    def _start_publishing(self) -> None:
        judgements = self._judging.result() if self._judging else Judgements.none(self._levels)
        scores = self._scoring.result() if self._scoring else None
        version = self._services.scorer.version if self._services.scorer else None
        commit = self._builder.finish(self.batch, judgements, scores, version)
        self._commit = commit
        publisher, patience = self._services.publisher, self._services.publisher_patience
        self._publishing = self._call(lambda: publisher.publish(commit), patience)

    def _start_commit(self) -> None:
        commit = self._commit
        assert commit is not None
        self._committing = self._call(lambda: self._services.writer.commit(commit), self._services.writer_patience)
