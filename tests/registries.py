"""Models for a registry, and processes that work on one and can be killed at any step."""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Self

from labelstream.schemas.errors import LabelstreamError
from labelstream.training import durable_files
from labelstream.training.manifest import CodeVersion, DataSnapshot, Origin
from labelstream.training.registry import Registry

RANKER = "ranker"
# The code that changes the disk: a process can be killed before each of its lines.
TRACED = durable_files.__file__


def origin(snapshot: int = 1, **fields: Any) -> Origin:
    """Where a model comes from, as far as tests care."""
    data = DataSnapshot(lake="lake", snapshot=snapshot, rows={"pairs": 10})
    return Origin.model_validate({"data": data, "code": CodeVersion(package="0.1.0"), "seed": 1, **fields})


def add(registry: Registry, content: str, *, score: float = 0.9, **fields: Any) -> str:
    """Add a small ranker of two files."""
    with registry.stage(RANKER) as folder:
        (folder / "model.json").write_text(content)
        (folder / "more").mkdir()
        (folder / "more" / "features.txt").write_text("price\nclicks\n")
        return registry.add(RANKER, folder, origin=origin(**fields), metrics={"ndcg": score})


def promote(registry: Registry, version: str) -> None:
    """Promote over whoever is champion."""
    current = registry.champion(RANKER)
    registry.promote(RANKER, version, expected=current.version if current else None, reason="better")


class Outcome(NamedTuple):
    """How a process ended."""

    result: Any
    error: str
    killed: bool


class Workers:
    """Starts processes quickly: a helper without threads imports everything once, and forks.

    Jobs are named after the functions in ``JOBS``. Jobs of one call start at the same moment.
    """

    def __enter__(self) -> Self:
        single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **single}
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        assert self._process.returncode == 0

    def run(self, *jobs: dict[str, Any]) -> list[Outcome]:
        """Run jobs at once.

        Args:
            jobs: ``do``, ``root`` and arguments of the function; ``die_at``: number of the step before which the
                process gets SIGKILL; ``die_after``: number of reports after which it does.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(jobs).encode() + b"\n")
        self._process.stdin.flush()
        return [Outcome(*outcome) for outcome in json.loads(self._process.stdout.readline())]


Report = Callable[[], None]


def add_and_promote(registry: Registry, _: Report, content: str) -> str:
    version = add(registry, content)
    promote(registry, version)
    return version


def add_only(registry: Registry, _: Report, content: str) -> str:
    return add(registry, content)


def promote_over(registry: Registry, _: Report, version: str, expected: str | None) -> int:
    return registry.promote(RANKER, version, expected=expected, reason="better").number


def rollback_from(registry: Registry, _: Report, expected: str) -> str:
    return registry.rollback(RANKER, "bad", expected=expected).version


def prune(registry: Registry, _: Report, keep: int) -> list[str]:
    return list(registry.prune(RANKER, keep=keep))


# What may happen to one because of what the others do.
OTHERS = r"^StaleChampion|has been pruned|no ranker has the version|no ranker to roll back to"


def churn(registry: Registry, report: Report, seed: int) -> None:
    """Add, promote, roll back and prune for ever."""
    rng = random.Random(seed)
    steps = (
        lambda: add_and_promote(registry, report, f"{rng.random()}" * rng.randrange(1, 3000)),
        lambda: registry.rollback(RANKER, "bad"),
        lambda: registry.prune(RANKER, keep=2),
    )
    while True:
        [step] = rng.choices(steps, weights=(3, 1, 2))
        try:
            step()
        except LabelstreamError as error:
            if not re.search(OTHERS, f"{type(error).__name__}: {error}"):
                raise
        report()


def watch(registry: Registry, _: Report, stop: int) -> dict[str, Any]:
    """Look at the champion until told to stop; it must be whole whenever it is still champion after the look."""
    looks, wrong = 0, []
    while looks < 3 or not select.select([stop], [], [], 0)[0]:
        champion = registry.champion(RANKER)
        assert champion is not None
        try:
            found = registry.verify(RANKER, champion.version)
        except LabelstreamError as error:
            found = [repr(error)]
        if found and registry.champion(RANKER) == champion:
            wrong += found
        looks += 1
    return {"looks": looks, "wrong": wrong}


JOBS = {function.__name__: function for function in (add_and_promote, add_only, promote_over, rollback_from, prune,
                                                     churn, watch)}  # fmt: skip


def _die_at(step: int) -> None:
    """SIGKILL ourselves before the given line of the code that changes the disk."""
    done = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal done
        if frame.f_code.co_filename != TRACED:
            return None
        if event == "line":
            done += 1
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


class _Child(NamedTuple):
    pid: int
    reports: int
    die_after: int | None
    watches: bool


def _start(job: dict[str, Any], go: int, stop: int, others: list[int]) -> _Child:
    reports, reporting = os.pipe()
    pid = os.fork()
    if pid == 0:
        for descriptor in (*others, reports):
            os.close(descriptor)
        os.read(go, 1)  # returns when the parent closes its end: all start at once
        _work(job, reporting, stop)
    os.close(reporting)
    return _Child(pid, reports, job.get("die_after"), job["do"] == "watch")


def _work(job: dict[str, Any], reporting: int, stop: int) -> None:
    """Never returns."""
    arguments = {name: value for name, value in job.items() if name not in ("do", "root", "die_at", "die_after")}
    if job["do"] == "watch":
        arguments["stop"] = stop
    if job.get("die_at"):
        _die_at(job["die_at"])
    result, error = None, ""
    try:
        result = JOBS[job["do"]](Registry(Path(job["root"])), lambda: os.write(reporting, b".") and None, **arguments)
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    os.write(reporting, json.dumps([result, error]).encode())
    os._exit(0)


def _wait(child: _Child) -> Outcome:
    """Read reports until the end of the process, or until it has lived long enough."""
    heard = b""
    while part := os.read(child.reports, 1 << 16):
        heard += part
        if child.die_after is not None and len(heard) >= child.die_after:
            os.kill(child.pid, signal.SIGKILL)
    os.close(child.reports)
    _, status = os.waitpid(child.pid, 0)
    if os.WIFSIGNALED(status):
        return Outcome(None, "", killed=True)
    result, error = json.loads(heard.lstrip(b"."))
    return Outcome(result, error, killed=False)


def _serve() -> None:
    os.fsync = lambda _: None  # only a power cut could tell, and the disk's pace is not under test
    for line in sys.stdin:
        go, going = os.pipe()
        stop, stopping = os.pipe()
        children: list[_Child] = []
        for job in json.loads(line):
            others = [going, stopping, *(child.reports for child in children)]
            children.append(_start(job, go, stop, others))
        os.close(going)
        outcomes = {child: _wait(child) for child in children if not child.watches}
        os.close(stopping)
        outcomes |= {child: _wait(child) for child in children if child.watches}
        os.close(go)
        os.close(stop)
        sys.stdout.write(json.dumps([outcomes[child] for child in children]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
