"""Stand-ins for the models and the actors, each named for the behaviour that it has."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from uniform import JUDGE, uniform

from labelstream.schemas.errors import BadRecord, LakeUnavailable, ModelUnavailable
from labelstream.schemas.judgements import Judgements
from labelstream.schemas.settings import Settings
from labelstream.streaming.commit import Commit, Receipt
from labelstream.streaming.flight import Services
from labelstream.streaming.retry import Patience
from labelstream.streaming.waiting_rows import Resolvable
from labelstream.streaming.writer import LakeWriter


class UniformJudge:
    """Answers at once, with the same distribution for every pair; counts how often each pair was asked."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()

    def judge(self, queries: Sequence[str], products: Sequence[str]) -> Future[Judgements]:
        self.asked.update(zip(queries, products, strict=True))
        return done(self.answer(len(queries)))

    def answer(self, pairs: int) -> Judgements:
        return uniform(pairs)


class SlowJudge(UniformJudge):
    """Takes a while for each batch."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def judge(self, queries: Sequence[str], products: Sequence[str]) -> Future[Judgements]:
        self.asked.update(zip(queries, products, strict=True))
        future: Future[Judgements] = Future()
        timer = threading.Timer(self._seconds, lambda: future.set_result(uniform(len(queries))))
        timer.daemon = True
        timer.start()
        return future


class DyingJudge(UniformJudge):
    """Is unavailable the first times that it is asked."""

    def __init__(self, deaths: int) -> None:
        super().__init__()
        self.deaths = deaths

    def judge(self, queries: Sequence[str], products: Sequence[str]) -> Future[Judgements]:
        if self.deaths:
            self.deaths -= 1
            return failed(ModelUnavailable("the labeller died"))
        return super().judge(queries, products)


class RefusingJudge(UniformJudge):
    """Cannot judge any product whose text has a certain word."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    def judge(self, queries: Sequence[str], products: Sequence[str]) -> Future[Judgements]:
        answer = uniform(len(queries))
        for index, product in enumerate(products):
            if self._word in product:
                answer.probabilities[index] = np.nan
                answer.errors[index] = BadRecord("title: cannot be judged", field="title")
        return done(answer)


class ThreadWriter:
    """The lake's writer on a thread of its own, for several Ingest loops in one process."""

    def __init__(self, settings: Settings) -> None:
        self._executor = ThreadPoolExecutor(1)
        self._writer = self._executor.submit(LakeWriter, settings).result()

    def commit(self, commit: Commit) -> Future[Receipt]:
        return self._executor.submit(self._writer.commit, commit)

    def offsets(self) -> Future[dict[tuple[str, int], int]]:
        return self._executor.submit(self._writer.offsets)

    def resolvable(self, limit: int) -> Future[Resolvable]:
        return self._executor.submit(self._writer.resolvable, limit)

    def totals(self) -> dict[str, int]:
        return self._executor.submit(self._writer.totals).result()

    def snapshot(self) -> int:
        return self._executor.submit(lambda: self._writer.snapshot).result()

    def close(self) -> None:
        self._executor.submit(self._writer.close).result()
        self._executor.shutdown()


class ForgetfulWriter(ThreadWriter):
    """Commits, and then loses every other answer."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.lost = 0

    def commit(self, commit: Commit) -> Future[Receipt]:
        receipt = super().commit(commit)
        self.lost += 1
        if self.lost % 2:
            receipt.result()
            return failed(LakeUnavailable("the answer was lost"))
        return receipt


class HangingWriter:
    """Answers only after it has been restarted, whatever it is asked.

    Args:
        answer: What it says then.
    """

    def __init__(self, answer: Any) -> None:
        self.restarts, self._answer = 0, answer

    def offsets(self) -> Future[Any]:
        return done(self._answer) if self.restarts else Future()

    def resolvable(self, _: int) -> Future[Any]:
        return self.offsets()

    def restart(self) -> None:
        self.restarts += 1

    def services(self) -> Services:
        """Services that soon restart it."""
        patience = Patience("writer", 0.05, 30, self.restart)
        return replace(services(UniformJudge(), self), writer_patience=patience)


class SilentPublisher:
    """Publishes nothing, successfully."""

    def publish(self, _: Commit) -> Future[None]:
        return done(None)


def services(judge: Any, writer: Any, give_up_s: float = 30) -> Services:
    """Services with little patience, so that a broken test ends soon."""
    patience = Patience("stand-in", answer_timeout_s=60, give_up_s=give_up_s)
    return Services(judge, JUDGE, None, writer, SilentPublisher(), patience, patience, patience, patience)


def done(value: Any) -> Future[Any]:
    """A future that has its result."""
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def failed(error: Exception) -> Future[Any]:
    """A future that has failed."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
