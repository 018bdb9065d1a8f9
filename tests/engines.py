"""Engines that are no model, named for how they behave, and what every engine with a model keeps to."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from patience import TIMEOUT

from labelstream.actors.engine_thread import Engine
from labelstream.actors.label_engine import LabelEngine
from labelstream.actors.priorities import REQUEST_PRIORITY, STREAM_PRIORITY


class EchoEngine:
    """Answers a prompt with its first two token ids, one prompt a step, in the order they came in."""

    def __init__(self) -> None:
        self.inside: deque[tuple[int, list[int]]] = deque()
        self.seen: list[tuple[int, ...]] = []
        self.fullest = 0
        self.closed = False

    def add(self, request: int, token_ids: list[int], priority: int) -> None:
        self.inside.append((request, token_ids))
        self.seen.append((priority, *token_ids))
        self.fullest = max(self.fullest, len(self.inside))

    def step(self) -> list[tuple[int, list[float]]]:
        if not self.inside:
            return []
        request, token_ids = self.inside.popleft()
        return [(request, [float(token_ids[0]), float(token_ids[1])])]

    def close(self) -> None:
        self.closed = True


class FailingEngine(EchoEngine):
    """Breaks at its third step."""

    steps = 0

    def step(self) -> list[tuple[int, list[float]]]:
        self.steps += 1
        if self.steps == 3:
            raise RuntimeError("out of memory")
        return super().step()


class GatedEngine(EchoEngine):
    """Works only while its gate is open; says when it has been asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.asked = threading.Event(), threading.Event()

    def step(self) -> list[tuple[int, list[float]]]:
        self.asked.set()
        self.gate.wait(timeout=TIMEOUT)
        return super().step()


def assert_a_request_overtakes(engine: Engine) -> None:
    """An engine that takes two prompts a step, full of the stream's, begins with the one for which somebody waits."""
    for request in range(6):
        engine.add(request, [5 + request, 6, 7], STREAM_PRIORITY)
    engine.add(6, [4, 6, 7], REQUEST_PRIORITY)
    assert [request for request, _ in sorted(engine.step())] == [0, 6]


def assert_order_is_kept(engine: LabelEngine, pairs: tuple[list[str], list[str]], callers: int, atol: float) -> None:
    """Batches with the same pairs in other orders, all under way at once, get the answers of their pairs."""
    alone = engine.judge(*pairs).result(TIMEOUT).probabilities
    orders = [np.random.default_rng(seed).permutation(len(alone)) for seed in range(callers)]

    def judge(order: np.ndarray) -> np.ndarray:
        queries, products = ([column[i] for i in order] for column in pairs)
        return engine.judge(queries, products, priority=int(order[0]) % 3).result(TIMEOUT).probabilities

    with ThreadPoolExecutor(callers) as pool:
        for order, probabilities in zip(orders, pool.map(judge, orders), strict=True):
            np.testing.assert_allclose(probabilities, alone[order], atol=atol)
