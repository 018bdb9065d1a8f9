"""The HTTP endpoint under load, beside the engine called in a process.

    .venv/bin/python benchmarks/endpoint.py                                # everything, about 10 minutes
    .venv/bin/python benchmarks/endpoint.py --scenario alone --seconds 5   # one of them, quick

* ``alone``      1 and 32 pairs a request, 1, 16 and 64 at once: p50 and p95, beside the bare ``LabelEngine`` in a
                 process of its own with as many callers
* ``saturated``  one pair a request, 1 and 4 at once, while the stream has more than it can do; the rate that the stream
                 keeps. With LABELSTREAM_LABELLER_REPLICAS=2 and LABELSTREAM_LABELLER_RESERVED=1 requests have a
                 Labeller of their own
* ``overload``   what 64 at once can get, then twice that rate for two minutes: p95 of what is answered, p95 of the
                 refusals, and the memory of each process at the end of each half, from its lowest to its highest: the
                 Labeller gives free pages back every ten seconds
* ``killed``     two Labellers, one of them killed under load: failed requests, and how long the gap is

The load comes from wrk (https://github.com/wg/wrk, Debian's package of that name), which takes so little of the
processors that it can share them with what is measured. Every pair is new, so nothing comes from the cache.
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import distinct_pairs, distinct_products, keep, model_of, model_parser, own_process, show, stream_settings
from endpoint_parts import Answers, Endpoint, Engine, Load, quantile

from labelstream.schemas.settings import Settings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.importers import publish_products
from labelstream.streaming.lake import Lake
from labelstream.streaming.publish import Outgoing, publish
from labelstream.streaming.topics import ensure_topics

CALLERS, PAIRS = (1, 16, 64), (1, 32)
BESIDE_STREAM = (1, 4)
QUANTILES = (("p50", 0.5), ("p95", 0.95))
OVERLOAD_CALLERS = 64
OVERLOAD_CACHE_GIGABYTES = 0.125  # taken page by page: one that is soon full does not look like a leak
HALVES = ("first_half", "second_half")
LABELLER = "ray::Labeller"


def alone(settings: Settings, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Latency with nothing else to do."""
    cells = [(pairs, callers) for pairs in PAIRS for callers in CALLERS]
    with own_process(Engine, settings) as engine:
        bare = {cell: engine(*cell, options.seconds) for cell in cells}
    with Endpoint(settings, folder) as endpoint:
        load = Load(endpoint.url, folder)
        load(pairs=1, callers=4, seconds=3)  # warm up
        asked = {cell: load(pairs=cell[0], callers=cell[1], seconds=options.seconds).seconds(200) for cell in cells}
    found = [
        {
            "pairs": pairs, "callers": callers, "requests": len(asked[pairs, callers]),
            **{f"{name}_ms": 1000 * quantile(asked[pairs, callers], q) for name, q in QUANTILES},
            **{f"bare_{name}_ms": 1000 * quantile(bare[pairs, callers], q) for name, q in QUANTILES},
        }
        for pairs, callers in cells
    ]  # fmt: skip
    columns = ("pairs", "callers", "requests", "p50_ms", "p95_ms", "bare_p50_ms", "bare_p95_ms")
    show("alone", columns, [tuple(row[column] for column in columns) for row in found])
    return {"cells": found, "overhead_p50_ms": found[0]["p50_ms"] - found[0]["bare_p50_ms"]}


def saturated(settings: Settings, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Latency and the stream's rate while both are there."""
    with streaming(settings, options.backlog), Endpoint(settings, folder, "--with-stream") as endpoint:
        load = Load(endpoint.url, folder)
        endpoint.wait_for(lambda: labels(settings) > 0)
        rate_alone = rate(settings, lambda: time.sleep(options.seconds))
        rows = []
        for callers in BESIDE_STREAM:
            times: list[float] = []
            beside = rate(settings, lambda c=callers, t=times: t.extend(
                load(pairs=1, callers=c, seconds=options.seconds, rate=options.rate).seconds(200)))  # fmt: skip
            rows.append({"callers": callers, "times": times, "stream_share": beside / rate_alone})
        assert labels(settings) < options.backlog, "the backlog was too small; give a larger --backlog"
    with Endpoint(settings, folder) as endpoint:
        load = Load(endpoint.url, folder)
        load(pairs=1, callers=4, seconds=3)
        for row in rows:
            idle = load(pairs=1, callers=row["callers"], seconds=options.seconds, rate=options.rate).seconds(200)
            times = row.pop("times")
            row.update({f"{name}_ms": 1000 * quantile(times, q) for name, q in QUANTILES}, requests=len(times))
            row["idle_p95_ms"] = 1000 * quantile(idle, 0.95)
            row["ratio"] = row["p95_ms"] / row["idle_p95_ms"]
    columns = ("callers", "requests", "p50_ms", "p95_ms", "idle_p95_ms", "ratio", "stream_share")
    show("beside a full stream", columns, [tuple(row[column] for column in columns) for row in rows])
    return {"stream_alone_pairs_per_second": rate_alone, "cells": rows}


@contextmanager
def streaming(settings: Settings, backlog: int) -> Iterator[None]:
    """More pairs in Kafka than the stream can judge meanwhile."""
    products = distinct_products(min(backlog, 20_000))
    ensure_topics(settings.kafka)
    publish_products(products, settings.kafka)
    pairs = distinct_pairs(products, backlog, 1)
    messages = (
        Outgoing(query.encode(), f'{{"query": "{query}", "product_id": "{product.product_id}"}}'.encode())
        for query, product in pairs
    )
    publish(messages, settings.kafka.events_topic, settings.kafka)
    yield


def labels(settings: Settings) -> int:
    """How many labels the lake has; 0 where there is none yet."""
    try:
        with Lake(settings.lake, read_only=True) as lake:
            return int(lake.query("SELECT count(*) FROM labels")[0][0])
    except Exception:
        return 0


def rate(settings: Settings, meanwhile: Callable[[], Any]) -> float:
    """Labels a second while something else goes on, from one batch to another.

    A batch brings a thousand at once, so what the lake holds at two moments in between would be far off.
    """
    began = datetime.now(UTC)
    meanwhile()
    with Lake(settings.lake, read_only=True) as lake:
        batches = lake.query(
            "SELECT epoch(judged_at), count(*) FROM labels WHERE judged_at > ? GROUP BY ALL ORDER BY ALL", [began]
        )
    assert len(batches) > 1, "fewer than two batches: give more --seconds or a smaller LABELSTREAM_STREAM_BATCH_RECORDS"
    return float(sum(count for _, count in batches[1:]) / (batches[-1][0] - batches[0][0]))


def overload(settings: Settings, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Twice of what there can be, with a small KV cache."""
    labeller = settings.labeller.model_copy(update={"cache_gigabytes": OVERLOAD_CACHE_GIGABYTES})
    with Endpoint(settings.model_copy(update={"labeller": labeller}), folder) as endpoint:
        load = Load(endpoint.url, folder)
        load(pairs=1, callers=4, seconds=3)
        at_capacity = load(pairs=1, callers=OVERLOAD_CALLERS, seconds=options.seconds).seconds(200)
        capacity, by_half = len(at_capacity) / options.seconds, {}
        callers, seconds = 4 * OVERLOAD_CALLERS, options.overload_seconds / 2
        twice = Answers([])
        for half in HALVES:
            answers = load.start(pairs=1, callers=callers, seconds=seconds, rate=2 * capacity / callers)
            by_half[half] = endpoint.memory_range_mib(seconds)
            twice += answers()
        recovered = load(pairs=1, callers=4, seconds=5)
    row = {
        "capacity_per_second": capacity, "p95_ms": 1000 * quantile(at_capacity, 0.95),
        "offered_per_second": len(twice.answers) / options.overload_seconds,
        "answered": len(twice.seconds(200)), "refused": len(twice.seconds(503)), "others": twice.others(200, 503),
        "overload_p95_ms": 1000 * quantile(twice.seconds(200), 0.95),
        "refusal_p95_ms": 1000 * quantile(twice.seconds(503), 0.95),
        **{f"labeller_mib_{half}": "{} to {}".format(*found[LABELLER]) for half, found in by_half.items()},
        "failed_afterwards": recovered.others(200),
    }  # fmt: skip
    show("twice the capacity", ("", "value"), list(row.items()))
    return row | {"memory_mib": by_half}


def killed(settings: Settings, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One Labeller of two dies."""
    two = settings.model_copy(update={"labeller": settings.labeller.model_copy(update={"replicas": 2})})
    with Endpoint(two, folder) as endpoint:
        load = Load(endpoint.url, folder)
        load(pairs=1, callers=4, seconds=3)
        running = load.start(pairs=1, callers=8, seconds=3 * options.seconds)
        time.sleep(options.seconds)
        assert endpoint.process.kill_actor("labeller", random.Random(1))
        answers = running()
    row = {
        "requests": len(answers.answers) + answers.broken, "failed": answers.others(200),
        "longest_s": max(seconds for _, _, seconds in answers.answers),
    }  # fmt: skip
    row["failed_share"] = row["failed"] / row["requests"]
    show("a labeller killed", ("", "value"), list(row.items()))
    return row


SCENARIOS = {"alone": alone, "saturated": saturated, "overload": overload, "killed": killed}


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="one of them; all without it")
    parser.add_argument("--seconds", type=float, default=15, help="of one measurement")
    parser.add_argument("--overload-seconds", type=float, default=120)
    parser.add_argument("--backlog", type=int, default=100_000, help="pairs that wait in Kafka for the stream")
    parser.add_argument("--rate", type=float, default=10, help="requests a second of one caller beside the stream")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("the load comes from wrk, which is not there; install it: apt install wrk")
    result = {}
    for name in options.scenario or SCENARIOS:
        with TemporaryDirectory() as folder, KafkaCluster.start() as broker:
            settings = stream_settings(
                Path(folder), broker.bootstrap_servers, model_of(options, Path(folder)), options.threads,
                encoder={"enabled": False},
            )  # fmt: skip
            result[name] = SCENARIOS[name](settings, options, Path(folder))
    keep("endpoint", options, result)


if __name__ == "__main__":
    main()
