"""What has been polled and not yet put into a batch, with the offsets that each partition has reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from labelstream.streaming.commit import OffsetRange
from labelstream.streaming.records import Record, RecordRange

# kafka-python's TopicPartition is such a tuple too: in sets and as keys the two are the same.
Partition = tuple[str, int]


class RecordBuffer:
    """Collects records until a batch is full or has waited long enough.

    Args:
        batch_records: Full at this many records.
        linger_s: Ripe after this long even if not full.
        clock: Seconds, for tests.
    """

    def __init__(self, batch_records: int, linger_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = batch_records
        self._linger_s = linger_s
        self._clock = clock
        self._records: dict[Partition, list[Record]] = {}
        self._positions: dict[Partition, int] = {}
        self._reached: dict[Partition, int] = {}
        self._count = 0
        self._oldest = 0.0

    def begin(self, partition: Partition, offset: int) -> None:
        """Start reading a partition at an offset; what was buffered of it is forgotten."""
        self.forget([partition])
        self._positions[partition] = offset

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop partitions and what was buffered of them."""
        for partition in partitions:
            self._count -= len(self._records.pop(partition, ()))
            self._positions.pop(partition, None)
            self._reached.pop(partition, None)

    def add(self, partition: Partition, records: Iterable[Record]) -> None:
        """Append polled records; those that are here already (a stale fetch) are left out."""
        following = self.following(partition)
        if following is None:
            return
        kept = [record for record in records if record.offset >= following]
        if kept and not self._count:
            self._oldest = self._clock()
        if kept:
            self._records.setdefault(partition, []).extend(kept)
            self._reached.pop(partition, None)
        self._count += len(kept)

    def reach(self, partition: Partition, offset: int) -> None:
        """Note that there is no record up to an offset: transaction markers and compaction leave holes."""
        if offset > self._positions.get(partition, offset) and not self._records.get(partition):
            self._reached[partition] = offset

    def following(self, partition: Partition) -> int | None:
        """The offset behind all that is here; None for a partition that has not begun."""
        waiting = self._records.get(partition)
        return waiting[-1].offset + 1 if waiting else self._reached.get(partition, self._positions.get(partition))

    @property
    def positions(self) -> dict[Partition, int]:
        """The first offset of each partition that is in no batch yet."""
        return dict(self._positions)

    @property
    def is_full(self) -> bool:
        """No more should be polled."""
        return self._count >= self._limit

    @property
    def is_empty(self) -> bool:
        """Nothing is waiting."""
        return self._count == 0 and not self._reached

    @property
    def is_ripe(self) -> bool:
        """A batch should be made now."""
        return self.is_full or self.ripe_in_s == 0 or (self._count == 0 and bool(self._reached))

    @property
    def ripe_in_s(self) -> float:
        """How long until a batch should be made, if nothing else comes in; infinite with nothing to make it of."""
        return max(0.0, self._oldest + self._linger_s - self._clock()) if self._count else float("inf")

    def take(self) -> list[RecordRange]:
        """The next batch, as ranges that begin where the last ones ended; what is too much stays.

        A range begins at the position rather than at its first record: compaction and transaction markers
        leave holes in a topic's offsets.
        """
        ranges, room = [], self._limit
        for partition, records in list(self._records.items()):
            taken = records[:room]
            if taken:
                ranges.append(self._range(partition, taken, taken[-1].offset + 1))
                self._records[partition] = records[len(taken) :]
                room -= len(taken)
        ranges += [self._range(partition, [], offset) for partition, offset in self._reached.items()]
        self._records = {partition: records for partition, records in self._records.items() if records}
        self._reached = {}
        self._count -= self._limit - room
        return ranges

    def _range(self, partition: Partition, taken: list[Record], following: int) -> RecordRange:
        first, self._positions[partition] = self._positions[partition], following
        return RecordRange(OffsetRange(*partition, first, following), taken)
