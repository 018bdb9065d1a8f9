"""How much one replica takes on at once: two counters, and no queue that would only make everybody late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labelstream.actors.endpoint.problems import ProblemType, Refused


class Admission:
    """Counts what is in flight; of one event loop, so it needs no lock.

    Args:
        max_requests: Requests at once.
        max_pairs: Pairs and documents of all requests at once.
    """

    def __init__(self, max_requests: int, max_pairs: int) -> None:
        self._max_requests, self._max_pairs = max_requests, max_pairs
        self.requests = self.pairs = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the work on one request, from the first byte of its body.

        Raises:
            Refused: As many are being worked on as may be.
        """
        if self.requests >= self._max_requests:
            raise Refused(ProblemType.FULL, f"{self._max_requests} requests are being worked on; try again in a moment")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def items(self, count: int) -> Iterator[None]:
        """Around the work on the pairs or documents of one request.

        Raises:
            Refused: There is no room for them now, or never would be.
        """
        if count > self._max_pairs:
            raise Refused(
                ProblemType.TOO_MANY_ITEMS, f"{count} items, where this server takes {self._max_pairs}; send fewer"
            )
        if self.pairs + count > self._max_pairs:
            raise Refused(
                ProblemType.FULL, f"{self.pairs} of {self._max_pairs} pairs are being worked on; try again in a moment"
            )
        self.pairs += count
        try:
            yield
        finally:
            self.pairs -= count
