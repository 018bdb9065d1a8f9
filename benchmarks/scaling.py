"""How far the stream scales: throughput against 1, 2, 4 and 8 replicas, each with a partition and a labeller.

    .venv/bin/python benchmarks/scaling.py                              # with a SQLite catalogue
    .venv/bin/python benchmarks/scaling.py --catalog "postgres:dbname=lake host=/run/postgresql"    # an empty database
    .venv/bin/python benchmarks/scaling.py --replicas 1 2 --pairs 4096  # a quick look
    .venv/bin/python benchmarks/scaling.py --replicas 1 --service-rate 0    # where one Ingest ends
    .venv/bin/python benchmarks/scaling.py --writer-alone               # where the Writer ends

The model is a stand-in: ``FixedTimeLabeller`` takes the same time for every pair (``--service-rate`` pairs a second and
replica; 0 for no time at all) and uses no processor. Everything else is real: Kafka, Ingest, Writer, lake, labels
topic. While the stand-ins are the limit, throughput grows with the replicas; where it stops growing, ingest or lake are
the limit, or the cores of the machine. Which one the last two tables say: processor time of 1,000 pairs by kind of
process, and that of the busiest thread of each kind. A thread cannot take more than one core, so the last says what one
Ingest and the Writer could take on a machine with cores enough. ``--writer-alone`` has no Kafka and no Ingest: the
Writer actor gets batches of labels, ready-made, as fast as it takes them.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import (
    benchmark_parser,
    distinct_pairs,
    distinct_products,
    keep,
    show,
    stream_round,
    stream_settings,
)
from scaling_parts import KINDS, busiest_threads, thread_seconds, writer_alone

from labelstream.actors import model_pool
from labelstream.actors.application import Application
from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.settings import Settings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.importers import publish_products
from labelstream.streaming.topics import ensure_topics

SECONDS_OF_A_DAY = 86_400


class FixedTimeLabeller:
    """A Labeller without a model: one pair after the other, each in the same time, all with the same judgement."""

    service_rate = 1000.0

    def __init__(self, settings: Settings, _: int = 0) -> None:
        self._levels = len(settings.scale.levels)
        self._seconds_of_a_pair = 1 / self.service_rate if self.service_rate else 0.0
        self._free_at = 0.0

    async def judge(self, queries: Sequence[str], products: Sequence[str]) -> Judgements:
        assert len(queries) == len(products)
        loop = asyncio.get_running_loop()
        self._free_at = max(loop.time(), self._free_at) + len(queries) * self._seconds_of_a_pair
        await asyncio.sleep(self._free_at - loop.time())
        shape = (len(queries), self._levels)
        return Judgements(np.full(shape, 1 / self._levels, np.float32), np.zeros(len(queries), np.bool_))

    async def describe(self) -> JudgeDescription:
        return JudgeDescription("fixed-time", "none", "none", 1.0)


def measure(options: argparse.Namespace, folder: Path, broker: KafkaCluster, replicas: int) -> dict[str, Any]:
    """One round with so many replicas, on topics and a lake of its own; a small round before it warms up."""
    settings = stream_settings(
        folder, broker.bootstrap_servers, folder, 1,
        kafka={"group": f"scaling-{replicas}"} | {
            f"{kind}_topic": f"{kind}-{replicas}" for kind in ("events", "products", "labels", "dead_letters")
        },
        lake={} if options.catalog is None else {"catalog": options.catalog, "data_path": str(folder / "files")},
        labeller={"model": str(folder), "replicas": replicas, "cpus": 0},
        encoder={"enabled": False},
        stream={"replicas": replicas},
    )  # fmt: skip
    ensure_topics(settings.kafka, partitions=replicas)
    products = distinct_products(options.pairs)
    sent = publish_products(products, settings.kafka)
    model_pool.Labeller = FixedTimeLabeller  # type: ignore[assignment, misc]
    with Application(settings) as application:
        for seed, pairs in ((1, options.pairs // 4), (2, options.pairs)):
            sent, before = sent + pairs, thread_seconds()
            one = stream_round(application, settings, distinct_pairs(products, pairs, 100 * replicas + seed), sent)
            one["busiest_thread_seconds"] = busiest_threads(before, thread_seconds())
        application.stop()
    return one


def report(options: argparse.Namespace, result: dict[int, dict[str, Any]]) -> None:
    rows = [
        (replicas, replicas * options.service_rate or "any", one["pairs_per_second"], one["commits"])
        for replicas, one in result.items()
    ]
    show("pairs a second", ("replicas", "stand-ins could", "stream", "commits"), rows)
    for whose, column in (("all its processes", "processor_seconds"), ("its busiest thread", "busiest_thread_seconds")):
        table = []
        for kind in KINDS:
            used = [1e6 * one[column].get(kind, 0.0) / options.pairs for one in result.values()]
            last = used[-1] or math.nan  # too short a run for the kernel's clock
            table.append((kind, *used, 1e6 / last, SECONDS_OF_A_DAY / last))
        title = f"processor ms of 1,000 pairs, {whose}, and what one core could take at the last one"
        show(title, ("", *map(str, result), "pairs/s", "million a day"), table)


def report_writer(found: list[dict[str, Any]]) -> None:
    columns = ("rows_of_a_batch", "rows_per_second", "thread_share", "thread_ms_of_a_commit",
               "rows_per_second_of_a_full_thread")  # fmt: skip
    titles = ("rows of a batch", "rows/s", "share of its busiest thread", "its ms a commit", "rows/s of a full thread")
    show("the Writer alone", titles, [tuple(one[column] for column in columns) for one in found])


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--pairs", type=int, default=16_384, help="new pairs of a round")
    parser.add_argument("--service-rate", type=float, default=500, help="pairs a second of one stand-in; 0: any")
    parser.add_argument("--catalog", help="LABELSTREAM_LAKE_CATALOG; an empty database, for one number of replicas")
    parser.add_argument("--writer-alone", action="store_true", help="feed the Writer with ready-made batches instead")
    options = parser.parse_args()
    if options.writer_alone:
        with TemporaryDirectory() as folder:
            found = writer_alone(options, Path(folder))
        report_writer(found)
        keep("writer_alone", options, {"sizes": found})
        return
    if options.catalog is not None and len(options.replicas) > 1:
        parser.error("--catalog: one number of --replicas for one empty database")
    FixedTimeLabeller.service_rate = options.service_rate
    result = {}
    with TemporaryDirectory() as folder, KafkaCluster.start() as broker:
        for replicas in options.replicas:
            own = Path(folder) / str(replicas)
            own.mkdir()
            result[replicas] = measure(options, own, broker, replicas)
    report(options, result)
    keep("scaling", options, {str(replicas): one for replicas, one in result.items()})


if __name__ == "__main__":
    main()
