"""How many Labellers there should be, from what has been seen of the work. No Ray in here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from labelstream.schemas.scaling_settings import ScalingSettings

# Long enough for some batches of a slow model to be finished in it.
_LONGEST_WINDOW_S = 60.0
# A Labeller that has work for less of the time waits for something else: another one would wait beside it.
_BUSY = 0.8
# Share of what one fewer could do that the work may be, so that the one that goes is not wanted back at once.
_ROOM = 0.7


@dataclass(frozen=True)
class Work:
    """What is seen of the work at one moment.

    Attributes:
        at: Monotonic seconds.
        lag: Records in Kafka that the lake does not have; 0 where there is no stream.
        records: Records in the lake.
        busy_s: Seconds in which the Labellers that the stream may ask had work, each since its start, added up.
        requests: HTTP requests that the Labellers have now.
    """

    at: float
    lag: int
    records: int
    busy_s: float
    requests: int


class ScalingRule:
    """One more when the work is too much for the Labellers, one fewer when it has been little for long.

    Both are judged over a window of time in which the same Labellers took work; after every change it begins again.
    Too much is a lag that takes too long at its present pace while the Labellers are the ones who are busy, or more
    requests than they should have.

    Args:
        settings: Bounds, targets and the delay.
    """

    def __init__(self, settings: ScalingSettings) -> None:
        self._settings = settings
        self._window_s = min(settings.drain_target_s, _LONGEST_WINDOW_S)
        self._seen: deque[Work] = deque()
        self._serving = settings.replicas
        self._quiet_since: float | None = None

    def wanted(self, work: Work | None, serving: int, *, loading: bool = False) -> int:
        """How many there should be; never more than one away from how many there are.

        Args:
            work: None where something of it is not known, which changes nothing.
            serving: Labellers that take work.
            loading: Whether there is another one that still loads its model.
        """
        there = serving + loading
        if work is None or serving != self._serving or self._goes_back(work):
            self._begin(serving)
        if work is None or not self._covers_the_window(work):
            return there
        if self._quiet_for_long(work.at, there):
            self._quiet_since = None
            return there - 1
        return there + (not loading and there < self._settings.most and self._is_too_much(serving))

    def _begin(self, serving: int) -> None:
        self._seen.clear()
        self._serving, self._quiet_since = serving, None

    def _goes_back(self, work: Work) -> bool:
        """A Labeller that was restarted counts from 0 again."""
        return bool(self._seen) and work.busy_s < self._seen[-1].busy_s

    def _covers_the_window(self, work: Work) -> bool:
        self._seen.append(work)
        while len(self._seen) > 1 and work.at - self._seen[1].at >= self._window_s:
            self._seen.popleft()
        return work.at - self._seen[0].at >= self._window_s

    def _is_too_much(self, serving: int) -> bool:
        late = self._drain_s() > self._settings.drain_target_s and self._busy() >= _BUSY * self._for_stream(serving)
        return late or self._requests() > self._settings.target_requests * serving

    def _quiet_for_long(self, now: float, there: int) -> bool:
        if not self._is_quiet(there - 1):
            self._quiet_since = None
            return False
        self._quiet_since = now if self._quiet_since is None else self._quiet_since
        return now - self._quiet_since >= self._settings.scale_down_delay_s

    def _is_quiet(self, fewer: int) -> bool:
        settings = self._settings
        return (
            fewer >= settings.replicas
            and self._drain_s() <= settings.drain_target_s / 2
            and self._busy() <= _ROOM * self._for_stream(fewer)
            and self._requests() <= _ROOM * settings.target_requests * fewer
        )

    def _drain_s(self) -> float:
        """How long the lag would take if no more came in."""
        first, last = self._seen[0], self._seen[-1]
        if last.lag == 0:
            return 0.0
        pace = (last.records - first.records) / (last.at - first.at)
        return last.lag / pace if pace > 0 else float("inf")

    def _for_stream(self, labellers: int) -> int:
        return labellers - self._settings.reserved

    def _busy(self) -> float:
        """Labellers that had work, on average."""
        first, last = self._seen[0], self._seen[-1]
        return (last.busy_s - first.busy_s) / (last.at - first.at)

    def _requests(self) -> float:
        return sum(work.requests for work in self._seen) / len(self._seen)
