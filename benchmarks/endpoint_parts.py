"""Parts of endpoint.py: the endpoint in a process of its own, wrk's load, and the engine without any of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from process_memory import memory_of

from labelstream.actors.heap import TRIM_EVERY_S
from labelstream.actors.label_engine import LabelEngine
from labelstream.actors.priorities import REQUEST_PRIORITY
from labelstream.schemas.settings import Settings

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from processes import EndpointProcess

START_S = 600
MEMORY_S = 2.5 * TRIM_EVERY_S


def quantile(times: list[float], share: float) -> float:
    """NaN for no times at all."""
    return float(np.quantile(times, share)) if times else float("nan")


@dataclass(frozen=True)
class Answers:
    """What a load has got: (when, status, seconds) of each request, and how many connections broke."""

    answers: list[tuple[float, int, float]]
    broken: int = 0

    def __add__(self, others: Answers) -> Answers:
        return Answers([*self.answers, *others.answers], self.broken + others.broken)

    def seconds(self, status: int) -> list[float]:
        return [seconds for _, found, seconds in self.answers if found == status]

    def others(self, *statuses: int) -> int:
        """How many requests got another status, or no answer at all."""
        return self.broken + sum(found not in statuses for _, found, _ in self.answers)


class Load:
    """Runs wrk, a thread for each caller.

    Args:
        url: Of the endpoint.
        folder: For what it writes.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder

    def __call__(self, **options: Any) -> Answers:
        return self.start(**options)()

    def start(self, *, pairs: int, callers: int, seconds: float, rate: float = 0) -> Callable[[], Answers]:
        """Begin; the result waits for the end. ``rate`` is of one caller, 0 for as fast as answers come."""
        run = uuid.uuid4().hex[:6]
        out = self._folder / f"answers-{run}"
        script = str(Path(__file__).with_name("endpoint_load.lua"))
        arguments = ["--threads", str(callers), "--connections", str(callers), "--duration", f"{seconds:.0f}s"]
        environment = {"LOAD_PAIRS": str(pairs), "LOAD_RATE": str(rate), "LOAD_OUT": str(out), "LOAD_RUN": run}
        running = subprocess.Popen(
            ["wrk", *arguments, "--timeout", "60s", "--script", script, f"{self._url}/v1/labels"],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
        )

        def wait() -> Answers:
            assert running.wait(seconds + 120) == 0
            files = [out.with_name(f"{out.name}.{number}") for number in range(1, callers + 1)]
            broken = int(out.with_name(f"{out.name}.errors").read_text())
            return Answers([_answer(line) for file in files for line in file.read_text().splitlines()], broken)

        return wait


def _answer(line: str) -> tuple[float, int, float]:
    when, status, seconds = line.split()
    return float(when), int(status), float(seconds)


class Endpoint:
    """``labelstream serve`` as its own process; use as a context manager.

    Attributes:
        url: Where it answers.
        process: Can be killed in parts.
    """

    def __init__(self, settings: Settings, folder: Path, *arguments: str) -> None:
        self._log = folder / f"serve-{time.time():.0f}.log"
        environment = environment_of(settings) | {
            "LABELSTREAM_ENDPOINT_PORT": "0", "LABELSTREAM_ENDPOINT_ALLOW_ANONYMOUS": "true",
        }  # fmt: skip
        self.process = EndpointProcess(environment, self._log, *arguments)
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self.wait_for(lambda: "answering at" in self._log.read_text())
        except BaseException:
            self.process.clean_up()
            raise
        found = re.search(r"answering at (http://\S+)", self._log.read_text())
        assert found
        self.url = found.group(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate(120)
        self.process.clean_up()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            assert self.process.is_running, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.2)

    def memory_range_mib(self, seconds: float) -> dict[str, tuple[float, float]]:
        """The least and the most anonymous memory of its processes, by name, in the last moments of a time.

        Each page counts in shares where it is shared.
        """
        end, found = time.monotonic() + seconds, []
        time.sleep(max(0.0, seconds - MEMORY_S))
        while time.monotonic() < end:
            found.append({name: one["anonymous"] for name, one in memory_of(psutil.Process(self.process.pid)).items()})
            time.sleep(0.5)
        sizes = {name: [one[name] for one in found if name in one] for name in found[-1]}
        return {name: (round(min(of), 1), round(max(of), 1)) for name, of in sizes.items()}


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings that the benchmarks choose, as a process of its own reads them."""
    chosen = {
        name: value
        for name, value in settings.model_dump(mode="json", exclude_defaults=True).items()
        if isinstance(value, dict)
    }
    return {
        f"LABELSTREAM_{section}_{name}".upper(): value if isinstance(value, str) else json.dumps(value)
        for section, values in chosen.items()
        for name, value in values.items()
        if value is not None
    }


class Engine:
    """The bare engine; made and used in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._engine, self._asked = LabelEngine(settings), 0
        self._engine.judge(["warm up"] * 64, [f"Title: {n}\n" for n in range(64)]).result()

    def __call__(self, pairs: int, callers: int, seconds: float) -> list[float]:
        """Seconds of each call, by as many callers at once."""
        times: list[float] = []
        end, lock = time.perf_counter() + seconds, threading.Lock()

        def call() -> None:
            while (start := time.perf_counter()) < end:
                with lock:
                    self._asked += 1
                    number = self._asked
                products = [f"Title: red velvet sofa {index}\n" for index in range(pairs)]
                self._engine.judge([f"sofa {number}"] * pairs, products, REQUEST_PRIORITY).result()
                times.append(time.perf_counter() - start)

        threads = [threading.Thread(target=call) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return times
