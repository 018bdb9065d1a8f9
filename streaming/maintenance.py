"""Looking after the lake: few large files instead of many small ones, and no more history than wanted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from labelstream.schemas.errors import LakeBusy
from labelstream.streaming.lake import Lake


class Step(NamedTuple):
    """One step of a compaction: what it does, and how many files it wrote or removed."""

    name: str
    files: int


def compact(lake: Lake, keep_days: float) -> Iterator[Step]:
    """Compact all tables; safe beside a running stream.

    Args:
        lake: Opened for writing.
        keep_days: Snapshots older than this are forgotten, and with them the files that only they used. A
            training run can name any snapshot that is kept.

    Yields:
        Each step once it is done.

    Raises:
        TransientError: The stream has won every race for a while; try again.
    """
    statements = (
        ("rows from the catalogue into files", "CALL ducklake_flush_inlined_data('lake')"),
        ("small files merged", "CALL ducklake_merge_adjacent_files('lake')"),
        ("files with many deleted rows rewritten", "CALL ducklake_rewrite_data_files('lake')"),
        (
            "old snapshots forgotten",
            f"CALL ducklake_expire_snapshots('lake', older_than => now() - INTERVAL {keep_days * 86400:.0f} SECOND)",
        ),
        ("unused files removed", "CALL ducklake_cleanup_old_files('lake', older_than => now() - INTERVAL 1 HOUR)"),
    )
    for name, statement in statements:
        yield Step(name, _run(lake, statement))


def _run(lake: Lake, statement: str) -> int:
    busy = retry_if_exception_type(LakeBusy)
    for attempt in Retrying(
        retry=busy, stop=stop_after_attempt(8), wait=wait_random_exponential(0.1, max=5), reraise=True
    ):
        with attempt:
            return len(lake.query(statement))
    raise AssertionError("unreachable: the last attempt raises")
