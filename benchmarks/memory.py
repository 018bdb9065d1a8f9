"""Whether the stream's memory grows with the log.

    .venv/bin/python benchmarks/memory.py                                  # 10,000 and 100,000 events
    .venv/bin/python benchmarks/memory.py --events 2000 8000               # a quick look

Each size is a fresh run: broker, Ray, models, lake. One event in ten brings a pair that nobody has judged, the others
repeat one (``--new-share``), so ten times the events are ten times the labels and ten times the cached pairs; the
catalogue is the same. Every half second all processes of the stream (not the broker, not this one) are summed up:

* ``anonymous``  their own memory, in shares where it is shared (Pss_Anon): what the stream holds
* ``uss``        memory that no other process has, file pages included
* ``pss``        everything in shares: anonymous, Ray's object store, and pages of libraries, lake and store files that
                 the kernel may drop at any time

The ratio of the peaks at the largest and the smallest size says whether memory is bounded; at most 1.05 is wanted.
vLLM's KV cache is a setting, taken from the system page by page as it first fills. It is made small here, so that
both runs fill it and the ratio is about the stream.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from common import (
    distinct_pairs,
    distinct_products,
    keep,
    model_of,
    model_parser,
    own_process,
    show,
    stream_settings,
    wait_for_records,
)
from process_memory import KINDS, memory_of

from labelstream.actors.application import Application
from labelstream.schemas.settings import Settings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.importers import publish_products
from labelstream.streaming.publish import Outgoing, publish
from labelstream.streaming.topics import ensure_topics

SAMPLE_EVERY_S = 0.5
PRODUCTS = 1000


class Peak(threading.Thread):
    """Samples the memory of a process and its descendants until told to stop.

    Attributes:
        highest: MiB at the moment of the highest total, by kind.
        by_process: MiB of anonymous memory by process name, at its highest moment.
    """

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process, self._stopping = process, threading.Event()
        self.highest = dict.fromkeys(KINDS, 0.0)
        self.by_process: dict[str, float] = {}

    def run(self) -> None:
        while not self._stopping.wait(SAMPLE_EVERY_S):
            found = memory_of(self._process)
            totals = {kind: sum(process[kind] for process in found.values()) for kind in KINDS}
            if totals["anonymous"] > self.highest["anonymous"]:
                self.by_process = {name: process["anonymous"] for name, process in found.items()}
            self.highest = {kind: max(totals[kind], self.highest[kind]) for kind in KINDS}

    def stop(self) -> None:
        self._stopping.set()
        self.join()


class StreamRun:
    """The application in a process of its own, so that its whole tree begins fresh."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, records: int) -> dict[str, Any]:
        """Run until the lake has all records."""
        start = time.time()
        peak = Peak(psutil.Process())
        peak.start()
        with Application(self._settings) as application:
            progress = wait_for_records(application, records)
            application.stop()
            peak.stop()
        assert progress.lake is not None
        return {
            "peak_mib": peak.highest, "anonymous_mib_by_process": peak.by_process, "totals": progress.lake.totals,
            "seconds": time.time() - start,
        }  # fmt: skip


def event_log(count: int, new_share: float) -> list[Outgoing]:
    """Plain pairs: the first ones all new, then new and repeated ones mixed."""
    rng = random.Random(count)
    new = distinct_pairs(distinct_products(PRODUCTS), max(1, int(count * new_share)), count)
    values = [json.dumps({"query": query, "product_id": product.product_id}).encode() for query, product in new]
    chosen = values + rng.choices(values, k=count - len(values))
    rng.shuffle(chosen)
    return [Outgoing(None, value) for value in chosen]


def measure(options: argparse.Namespace, folder: Path, model: Path, events: int) -> dict[str, Any]:
    """One fresh run."""
    with KafkaCluster.start() as broker:
        settings = stream_settings(
            folder, broker.bootstrap_servers, model, options.threads, encoder={"enabled": options.with_encoder},
            labeller={"cache_gigabytes": options.cache_gigabytes},
        )  # fmt: skip
        ensure_topics(settings.kafka)
        records = publish_products(distinct_products(PRODUCTS), settings.kafka)
        records += publish(event_log(events, options.new_share), settings.kafka.events_topic, settings.kafka)
        with own_process(StreamRun, settings) as stream_run:
            found: dict[str, Any] = stream_run(records)
    return {"events": events, **found}


def report(result: dict[str, Any]) -> None:
    rows = [(run["events"], *(run["peak_mib"][kind] for kind in KINDS), run["seconds"]) for run in result["runs"]]
    rows.append(("ratio", *(result["ratio"][kind] for kind in KINDS), ""))
    show("peak memory, MiB", ("events", *KINDS, "seconds"), rows)
    first, last = result["runs"][0]["anonymous_mib_by_process"], result["runs"][-1]["anonymous_mib_by_process"]
    names = sorted(last, key=lambda name: -last[name])[:8]
    show(
        "anonymous by process, MiB",
        ("process", "smallest", "largest"),
        [(n, first.get(n, 0.0), last[n]) for n in names],
    )


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[10_000, 100_000], help="sizes, smallest first")
    parser.add_argument("--new-share", type=float, default=0.1, help="share of events with a pair that is new")
    parser.add_argument("--cache-gigabytes", type=float, default=0.125, help="labeller.cache_gigabytes")
    parser.add_argument("--with-encoder", action="store_true", help="run the cross-encoder too")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        model = model_of(options, Path(folder))
        runs = [measure(options, Path(folder) / str(events), model, events) for events in options.events]
    peaks = [run["peak_mib"] for run in runs]
    result = {"runs": runs, "ratio": {kind: peaks[-1][kind] / peaks[0][kind] for kind in KINDS}}
    report(result)
    keep("memory", options, result)


if __name__ == "__main__":
    main()
