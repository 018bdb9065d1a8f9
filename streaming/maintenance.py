"""Looking after the lake: few large files instead of many small ones, and no more history than wanted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from labelstream.schemas.errors import LakeBusy
from labelstream.streaming.lake import Lake

# How long, at least, a file stays that nobody but a running query knows.
GRACE_S = 3600.0


class Step(NamedTuple):
    """One step of a compaction: what it does, and how many files it wrote or removed."""

    name: str
    files: int


def compact(lake: Lake, keep_days: float) -> Iterator[Step]:
    """Compact all tables; safe beside a running stream.

    Args:
        lake: Opened for writing.
        keep_days: Snapshots of days before that are forgotten, and with them the files that only they used. A
            training run can name any snapshot that is kept. With 0 only the newest is kept.

    Yields:
        Each step once it is done.

    Raises:
        TransientError: The stream has won every race for a while; try again.
    """
    keep_s = keep_days * 86400
    statements = (
        ("rows from the catalogue into files", "CALL ducklake_flush_inlined_data('lake')"),
        ("small files merged", "CALL ducklake_merge_adjacent_files('lake')"),
        ("files with many deleted rows rewritten", "CALL ducklake_rewrite_data_files('lake')"),
        ("old snapshots forgotten", f"CALL ducklake_expire_snapshots('lake', older_than => {_before(keep_s)})"),
        ("unused files removed", f"CALL ducklake_cleanup_old_files('lake', older_than => {_before(GRACE_S)})"),
    )
    for name, statement in statements:
        yield Step(name, _run(lake, statement))


def _before(seconds: float) -> str:
    """The end of the last day that was over so long ago.

    In SQLite DuckLake compares its times as text, and writes them in two ways that have only the day in common: by
    the hour it would remove at once what a reader has just been told of.
    """
    moment = f"now() - INTERVAL {seconds:.0f} SECOND"
    return f"date_trunc('day', {moment}) - INTERVAL 1 MICROSECOND" if seconds else "now()"


def _run(lake: Lake, statement: str) -> int:
    busy = retry_if_exception_type(LakeBusy)
    again = Retrying(retry=busy, stop=stop_after_attempt(8), wait=wait_random_exponential(0.1, max=5), reraise=True)
    return len(again(lake.query, statement))
