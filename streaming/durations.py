"""How long something took, counted by how long it took."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

# Seconds: from a batch of known pairs to one that waited for a model's restart.
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@dataclass
class Durations:
    """A histogram.

    Attributes:
        counts: How many took up to each of ``BOUNDS`` and longer than the bound before; the last: longer than all.
        sum_s: All of them together, in seconds.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum_s += seconds
