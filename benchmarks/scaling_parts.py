"""Parts of scaling.py: what each thread has used, and the Writer alone, fed as fast as it takes."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import psutil
import ray
from common import kind_of
from lake import label_batch, lake_settings

from labelstream.actors.cluster import start_actor, start_ray
from labelstream.actors.remote import RemoteWriter
from labelstream.actors.writer import Writer, writer_options
from labelstream.schemas.settings import Settings

KINDS = ("IngestActor", "Writer", "broker")
WRITER_BATCHES = (64, 256, 1024)
Threads = dict[tuple[str, int], float]


def thread_seconds() -> Threads:
    """Processor seconds of every thread of every child of this process, by (kind of process, number of the thread)."""
    used: Threads = {}
    for process in psutil.Process().children(recursive=True):
        try:
            kind, threads = kind_of(process.pid, process.cmdline()), process.threads()
        except psutil.NoSuchProcess:
            continue
        used |= {(kind, thread.id): thread.user_time + thread.system_time for thread in threads}
    return used


def busiest_threads(before: Threads, after: Threads) -> dict[str, float]:
    """Processor seconds of the busiest thread of each kind of process between two moments."""
    spent = {key: seconds - before.get(key, 0.0) for key, seconds in after.items()}
    return {kind: max((s for (of, _), s in spent.items() if of == kind), default=0.0) for kind in KINDS}


def writer_alone(options: Any, folder: Path) -> list[dict[str, Any]]:
    """Rows that the Writer takes when somebody always has the next batch ready, by the size of the batches."""
    found = []
    for rows in WRITER_BATCHES:
        own = folder / f"batches-of-{rows}"
        settings = Settings.load(
            lake=lake_settings(own).model_dump(), store={"path": own / "store", "max_bytes": 8 << 30},
            labeller={"model": str(folder)},
        )  # fmt: skip
        start_ray(settings)
        try:
            found.append(_fed(settings, rows, max(20, options.pairs // rows)))
        finally:
            ray.shutdown()
    return found


def _fed(settings: Settings, rows: int, commits: int) -> dict[str, Any]:
    writer = RemoteWriter(start_actor(Writer, writer_options(settings), settings))
    batches = [label_batch(number, rows) for number in range(commits + 2)]
    for batch in batches[:2]:
        writer.commit(batch).result()  # opens the lake, and loads what the first commit loads
    waiting: deque[Any] = deque()
    before, start = thread_seconds(), time.perf_counter()
    for batch in batches[2:]:
        if len(waiting) == settings.stream.batches_in_flight:
            waiting.popleft().result()
        waiting.append(writer.commit(batch))
    for future in waiting:
        future.result()
    seconds, busiest = time.perf_counter() - start, busiest_threads(before, thread_seconds())["Writer"]
    return {
        "rows_of_a_batch": rows, "commits": commits, "rows_per_second": commits * rows / seconds,
        "thread_ms_of_a_commit": 1000 * busiest / commits, "thread_share": busiest / seconds,
        "rows_per_second_of_a_full_thread": commits * rows / busiest,
    }  # fmt: skip
