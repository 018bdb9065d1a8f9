"""A simulation as a search log in the UBI format. Every document in it is invented, and says so in ``application``."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from pydantic_core import to_json

from labelstream.training.durable_files import whole_file
from labelstream.training.simulator import NOTHING, SessionBlock, Simulation

APPLICATION = "labelstream-simulation"

_STEPS = ("click", "add_to_cart", "purchase")
_RANK_MS, _STEP_MS = 10_000, 3_000  # 300 ranks, the longest page, end within the hour that a day is left
_FAST = 3  # gzip: little more than twice the size of its best, many times faster


class LogCounts(NamedTuple):
    """What a log holds; ``sum`` gives the documents."""

    queries: int
    impressions: int
    clicks: int
    add_to_carts: int
    purchases: int


def session_documents(simulation: Simulation, block: SessionBlock) -> Iterator[list[dict[str, Any]]]:
    """The UBI documents of each session: the query, the impressions, then the actions by rank."""
    sessions = zip(*(column.tolist() for column in block[1:]), strict=True)
    for number, (query, time, shopper, shown, steps) in enumerate(sessions, block.first):
        common = {
            "application": APPLICATION,
            "query_id": f"simulation-{simulation.run}-{number}",
            "client_id": f"simulated-shopper-{shopper}",
        }
        hits = [simulation.product_ids[pair] for pair in shown if pair != NOTHING]
        sent = {"timestamp": time, "user_query": simulation.queries[query], "query_response_hit_ids": hits}
        yield [common | sent, *_events(common, time, hits, steps)]


def _events(common: dict[str, Any], time: int, hits: list[str], steps: list[int]) -> Iterator[dict[str, Any]]:
    pages = [
        {
            "object": {"object_id": product_id, "object_id_field": "product_id"},
            "position": {"ordinal": rank},
        }
        for rank, product_id in enumerate(hits, start=1)
    ]
    for attributes in pages:
        yield {**common, "action_name": "impression", "timestamp": time + 200, "event_attributes": attributes}
    for rank, attributes in enumerate(pages, start=1):
        for step, action in enumerate(_STEPS[: steps[rank - 1]]):
            moment = time + rank * _RANK_MS + step * _STEP_MS
            yield {**common, "action_name": action, "timestamp": moment, "event_attributes": attributes}


def write_log(simulation: Simulation, path: Path, on_progress: Callable[[int], None] | None = None) -> LogCounts:
    """Write the log, one document a line, whole or not at all.

    Args:
        simulation: Whose sessions, in the order of time.
        path: The file; gzip if its name ends in .gz.
        on_progress: Called now and then with the number of sessions written since the last call.

    Raises:
        SettingsError: The file may not be written.
        TransientError: The disk is full, or does not answer.
    """
    with whole_file(path) as file:
        return _write(simulation, file, on_progress or (lambda _: None), compress=path.suffix == ".gz")


def _write(simulation: Simulation, raw: IO[bytes], on_progress: Callable[[int], None], *, compress: bool) -> LogCounts:
    counts = np.zeros(len(LogCounts._fields), np.int64)
    # Without the time in the header the same simulation is the same file.
    packed = gzip.GzipFile("", "wb", _FAST, raw, mtime=0) if compress else raw
    for block in simulation.blocks():
        for documents in session_documents(simulation, block):
            packed.write(b"".join(to_json(document) + b"\n" for document in documents))
        done = [np.count_nonzero(block.steps > step) for step in range(len(_STEPS))]
        counts += np.array([len(block.query), np.count_nonzero(block.shown != NOTHING), *done])
        on_progress(len(block.query))
    if compress:
        packed.close()
    return LogCounts(*counts.tolist())
