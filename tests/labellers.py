"""Labellers without a model, named for how they behave.

Each is a process that Ray starts, so it is not to import what only the tests need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ray
from uniform import JUDGE, uniform

from labelstream.actors.busy_meter import BusyMeter, WorkReport
from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.settings import Settings

HURRY = "hurry"  # a file in the folder of the model


class FixedTimeLabeller:
    """A Labeller without a model: one pair after the other, each in the same time, until it is told to hurry."""

    seconds_a_pair = 0.05  # so that it is what all wait for, on a slow machine too

    def __init__(self, settings: Settings, _: int = 0) -> None:
        self._meter, self._free_at = BusyMeter(), 0.0
        self._hurry = Path(settings.labeller.model) / HURRY

    async def judge(self, queries: Sequence[str], products: Sequence[str], priority: int = 0) -> Judgements:
        with self._meter.batch(is_request=priority < 0):
            now = asyncio.get_running_loop().time()
            seconds = 0.0 if self._hurry.exists() else len(queries) * self.seconds_a_pair
            self._free_at = max(now, self._free_at) + seconds
            await asyncio.sleep(self._free_at - now)
            self._meter.count(pairs=len(products))
        return uniform(len(queries))

    async def describe(self) -> JudgeDescription:
        return JUDGE

    async def report(self) -> WorkReport:
        return self._meter.report()


class ObedientLabeller:
    """Goes by what stands in a folder: how many requests it has, which one loads, which model the second one holds."""

    def __init__(self, settings: Settings, _: int = 0) -> None:
        self._folder = Path(settings.labeller.model)
        if self._note("does not start", "") == ray.get_runtime_context().get_actor_name():
            raise ValueError("as it was told")

    async def judge(self, queries: Sequence[str], *_: object) -> Judgements:
        return uniform(len(queries))

    async def describe(self) -> JudgeDescription:
        name = ray.get_runtime_context().get_actor_name()
        while self._note("loads for ever", "") == name:
            await asyncio.sleep(0.01)
        second = name == "labeller-1"
        return replace(JUDGE, model_version=self._note("model", JUDGE.model_version)) if second else JUDGE

    async def report(self) -> WorkReport:
        under_way = int(self._note("under way", "0"))
        return WorkReport(0, 0, 0, 0.0, 0.0, under_way, int(self._note("requests", "0")))

    def _note(self, name: str, default: str) -> str:
        note = self._folder / name
        return note.read_text() if note.exists() else default


class KnownLabeller:
    """A Labeller, or a ranker, without a model."""

    def __init__(self, *_: object) -> None: ...

    async def judge(self, queries: Sequence[str], *_: object) -> Judgements:
        return uniform(len(queries))

    async def describe(self) -> JudgeDescription:
        return JUDGE

    async def ping(self) -> bool:
        return True

    async def report(self) -> WorkReport:
        return WorkReport(0, 0, 0, 0.0)
