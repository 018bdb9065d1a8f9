"""The load of endpoint.py, for locust: pairs that nobody has asked about, and the time of every single answer.

Run by endpoint.py; by hand:

    LOAD_OUT=/tmp/times.json locust -f benchmarks/endpoint_load.py --headless --host http://127.0.0.1:8000 -u 4 -t 10s
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task

PAIRS = int(os.environ.get("LOAD_PAIRS", "1"))  # of one request
RATE = float(os.environ.get("LOAD_RATE", "0"))  # requests a second of one user; 0: the next one after the answer
OUT = Path(os.environ["LOAD_OUT"])
TITLES = ["red velvet sofa", "blue oak chair", "black steel lamp", "white linen bed", "green glass table"]

_numbers = itertools.count()
_run = uuid.uuid4().hex[:6]  # another run asks about other pairs
_answers: list[tuple[float, int, float]] = []  # when, status, seconds


class Asker(FastHttpUser):
    """Asks for labels."""

    if RATE:
        wait_time = constant_throughput(RATE)  # type: ignore[no-untyped-call]

    @task
    def labels(self) -> None:
        number = next(_numbers)
        pairs = [
            {"query": f"sofa {_run} {number}", "product": {"title": f"{TITLES[index % 5]} {index}"}}
            for index in range(PAIRS)
        ]
        with self.client.post("/v1/labels", json={"pairs": pairs}, catch_response=True) as answer:
            answer.success()  # a refusal is an answer too; endpoint.py counts by status


@events.request.add_listener
def _note(response_time: float, response: Any, start_time: float, **_: Any) -> None:
    _answers.append((start_time, int(getattr(response, "status_code", 0) or 0), response_time / 1000))


@events.quitting.add_listener
def _write(**_: Any) -> None:
    OUT.write_text(json.dumps(_answers))
