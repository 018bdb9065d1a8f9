"""What a Labeller does around its engine: says that it hangs, and leaves the cores to those of the requests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from uniform import uniform

from labelstream.actors import labeller as module
from labelstream.actors.labeller import Labeller
from labelstream.schemas.judgements import Judgements
from labelstream.schemas.settings import Settings

# The policy of a thread from before, and of one from afterwards.
POLICIES = """
import os, threading
from labelstream.actors.threads import leave_cores_to_requests

gate, found = threading.Event(), []
def work():
    gate.wait()
    found.append(os.sched_getscheduler(0))

before = threading.Thread(target=work)
before.start()
leave_cores_to_requests()
after = threading.Thread(target=work)
after.start()
gate.set()
before.join()
after.join()
assert found == [os.SCHED_IDLE] * 2, found
"""


class SteadyEngine:
    """Judges at once; how long its step takes is what a test says."""

    step_s, healthy = 0.0, True

    def __init__(self, *_: object, **__: object) -> None: ...

    def judge(self, *_: object) -> SteadyEngine:
        return self

    def result(self) -> Judgements:
        return uniform(1)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by an entry each time a Labeller leaves the cores to others; the engine is none."""
    calls: list[str] = []
    monkeypatch.setattr(module, "LabelEngine", SteadyEngine)
    monkeypatch.setattr(module, "leave_cores_to_requests", lambda: calls.append("left"))
    return calls


@pytest.mark.parametrize(
    ("labeller", "number", "leaves"),
    [
        ({"replicas": 3, "reserved": 1}, 0, False),
        ({"replicas": 3, "reserved": 1}, 1, True),
        ({"replicas": 3, "reserved": 2}, 1, False),
        ({"replicas": 3}, 1, False),
        ({"replicas": 3, "reserved": 1, "gpus": 1}, 1, False),
    ],
)
def test_those_of_the_stream_leave_the_cores_to_those_of_requests(
    labeller: dict[str, Any], number: int, leaves: bool, left: list[str]
):
    Labeller(Settings.load(labeller=labeller), number)
    assert bool(left) is leaves


def test_every_thread_leaves_the_cores():
    subprocess.run([sys.executable, "-c", POLICIES], check=True)


@pytest.mark.usefixtures("left")
@pytest.mark.parametrize(
    ("step_s", "healthy", "answers"), [(0, True, True), (29, True, True), (30, True, False), (0, False, False)]
)
def test_one_whose_step_takes_longer_than_a_request_may_says_so(
    step_s: float, healthy: bool, answers: bool, monkeypatch: pytest.MonkeyPatch
):
    labeller = Labeller(Settings.load(endpoint={"deadline_s": 30}))
    monkeypatch.setattr(SteadyEngine, "step_s", step_s)
    monkeypatch.setattr(SteadyEngine, "healthy", healthy)
    assert asyncio.run(labeller.ping()) is answers
    assert asyncio.run(labeller.report()).answers is answers
