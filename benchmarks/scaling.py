"""How far the stream scales: throughput against 1, 2, 4 and 8 replicas, each with a partition and a labeller.

    .venv/bin/python benchmarks/scaling.py                              # with a SQLite catalogue
    .venv/bin/python benchmarks/scaling.py --catalog "postgres:dbname=lake host=/run/postgresql"    # an empty database
    .venv/bin/python benchmarks/scaling.py --replicas 1 2 --pairs 4096  # a quick look

The model is a stand-in: ``FixedTimeLabeller`` takes the same time for every pair (``--service-rate`` pairs a second and
replica) and uses no processor. Everything else is real: Kafka, Ingest, Writer, lake, labels topic. While the stand-ins
are the limit, throughput grows with the replicas; where it stops growing, ingest or lake are the limit, or the cores of
the machine. Which one the last table says: processor seconds of 1,000 pairs, and so the most that one core of each kind
can take.
"""

from __future__ import annotations

import argparse
import asyncio
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

    def __init__(self, settings: Settings) -> None:
        self._levels = len(settings.scale.levels)
        self._seconds_of_a_pair = 1 / self.service_rate
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
            sent += pairs
            one = stream_round(application, settings, distinct_pairs(products, pairs, 100 * replicas + seed), sent)
        application.stop()
    return one


def per_thousand(one: dict[str, Any], pairs: int) -> dict[str, float]:
    """Processor seconds of 1,000 pairs, by kind of process."""
    return {name: 1000 * seconds / pairs for name, seconds in one["processor_seconds"].items()}


def report(options: argparse.Namespace, result: dict[int, dict[str, Any]]) -> None:
    rows = [
        (replicas, replicas * options.service_rate, one["pairs_per_second"], one["commits"])
        for replicas, one in result.items()
    ]
    show("pairs a second", ("replicas", "stand-ins could", "stream", "commits"), rows)
    columns: list[tuple[Any, ...]] = []
    for kind in ("IngestActor", "Writer", "broker"):
        used = [per_thousand(one, options.pairs).get(kind, 0.0) for one in result.values()]
        columns.append((kind, *(1000 * seconds for seconds in used), SECONDS_OF_A_DAY / (used[-1] or 1) / 1000))
    title = "processor ms of 1,000 pairs, and what a core could take in a day at the last one"
    show(title, ("process", *map(str, result), "million pairs"), columns)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--pairs", type=int, default=16_384, help="new pairs of a round")
    parser.add_argument("--service-rate", type=float, default=500, help="pairs a second of one stand-in")
    parser.add_argument("--catalog", help="LABELSTREAM_LAKE_CATALOG; an empty database, for one number of replicas")
    options = parser.parse_args()
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
