"""Engines that are no model, named for how they behave."""

from __future__ import annotations

import threading
from collections import deque


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
        self.gate.wait(timeout=30)
        return super().step()
