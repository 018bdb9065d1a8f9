"""A real search log over a real catalogue, again and again: what judging costs, and what the cache saves.

    .venv/bin/python benchmarks/chorus_replay.py --data ../shared/data                    # the whole log
    .venv/bin/python benchmarks/chorus_replay.py --data ../shared/data --limit 4000       # a quick look

The Chorus catalogue (19,406 products) is imported, then the same documents are replayed into a running stream, once
cold and some times warm. The cold pass judges every pair that it meets for the first time; in the warm pass every
pair is known. Rates are pairs (product events that became a label or found one) per second from the first document
sent to the last batch finished; ``factor`` is warm over cold.

What one repeated pair costs is measured in the stream's own code, in this process, on the store that the run left:
``BatchBuilder.prepare`` and ``finish`` over batches of known pairs, as plain pairs and as the log's own documents.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import commits, keep, model_of, model_parser, show, stream_settings, wait_for_records

from labelstream.actors.application import Application
from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.settings import Settings
from labelstream.streaming.batch import BatchBuilder
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.commit import OffsetRange
from labelstream.streaming.importers import publish_products, read_chorus_products
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.records import Record, RecordRange
from labelstream.streaming.replay import documents, replay
from labelstream.streaming.topics import ensure_topics

REPEATS = 5


def one_pass(
    application: Application, settings: Settings, log: Path, limit: int | None, repeat: int = 1
) -> dict[str, float]:
    """Replay the log and wait until the lake has all of it."""
    before = application.look().lake
    assert before is not None
    start = time.time()
    sent = sum(replay(log, settings.kafka, limit=limit).documents for _ in range(repeat))
    progress = wait_for_records(application, before.totals["records"] + sent)
    seconds = commits(settings, start)[-1]["at"] - start
    assert progress.lake is not None
    grown = {name: count - before.totals[name] for name, count in progress.lake.totals.items()}
    pairs = grown["labelled"] + grown["cached"]
    return {"seconds": seconds, "pairs": pairs, "pairs_per_second": pairs / seconds, **grown}


def run(options: argparse.Namespace, settings: Settings, chorus: Path, log: Path) -> dict[str, Any]:
    ensure_topics(settings.kafka)
    products = publish_products(read_chorus_products(chorus), settings.kafka)
    start = time.time()
    with Application(settings) as application:
        wait_for_records(application, products)
        imported = time.time() - start
        cold = one_pass(application, settings, log, options.limit)
        warm = one_pass(application, settings, log, options.limit, options.warm_repeats)
        description = application.description
        application.stop()
    assert description is not None
    assert warm["labelled"] == 0, "a known pair was judged again"
    with Lake(settings.lake, read_only=True) as lake:
        pairs = lake.query("SELECT query, product_id FROM labels")
    known = [
        json.dumps({"query": query, "product_id": product, "action": "click"}).encode() for query, product in pairs
    ]
    lines = [document.record.value for document in documents(log, limit=options.limit)]
    return {
        "products": products, "import_s_with_start": imported, "cold": cold, "warm": warm,
        "factor": warm["pairs_per_second"] / cold["pairs_per_second"],
        "repeated_pair": repeated_cost(settings, description, known),
        "log_document": repeated_cost(settings, description, lines),
    }  # fmt: skip


def repeated_cost(settings: Settings, judge: JudgeDescription, values: list[bytes]) -> dict[str, float]:
    """Microseconds for one record and for one known pair, median of several passes over all batches."""
    size = settings.stream.batch_records
    per_pass, pairs = [], 0
    with LocalStore(settings.store.path, settings.store.max_bytes) as store:
        builder = BatchBuilder(settings, judge, store)
        nothing = Judgements.none(len(settings.scale.levels))
        for _ in range(REPEATS):
            seconds, pairs = 0.0, 0
            for ranges in _batches(settings.kafka.events_topic, values, size):
                start = time.perf_counter()
                batch = builder.prepare(ranges, [])
                builder.finish(batch, nothing, None, None)
                seconds += time.perf_counter() - start
                assert not batch.pairs, "a known pair would be judged again"
                pairs += len(batch.sorted.observations)
            per_pass.append(seconds)
    seconds = statistics.median(per_pass)
    return {
        "records": len(values),
        "pairs": pairs,
        "us_a_record": seconds / len(values) * 1e6,
        "us_a_pair": seconds / pairs * 1e6,
    }


def _batches(topic: str, values: list[bytes], size: int) -> list[list[RecordRange]]:
    records = [Record(topic, 0, offset, None, value) for offset, value in enumerate(values)]
    parts = [records[i : i + size] for i in range(0, len(records), size)]
    return [[RecordRange(OffsetRange(topic, 0, part[0].offset, part[-1].offset + 1), part)] for part in parts]


def report(result: dict[str, Any]) -> None:
    columns = ("pairs", "labelled", "cached", "seconds", "pairs_per_second")
    rows = [(name, *(result[name][column] for column in columns)) for name in ("cold", "warm")]
    show("two passes over the log", ("pass", *columns[:-1], "pairs/s"), rows)
    repeated = result["repeated_pair"]
    facts = [
        ("warm over cold", result["factor"]),
        ("µs for a repeated pair (plain pairs)", repeated["us_a_pair"]),
        ("µs for a record of the log", result["log_document"]["us_a_record"]),
        ("µs for a repeated pair of the log, all its other records included", result["log_document"]["us_a_pair"]),
    ]
    show("the cache", ("", "value"), facts)


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with chorus/ and ubi/")
    parser.add_argument("--limit", type=int, help="documents of one pass at most")
    parser.add_argument("--warm-repeats", type=int, default=4, help="how often the known log comes again")
    parser.add_argument("--without-encoder", action="store_true", help="labels only")
    options = parser.parse_args()
    chorus, log = options.data / "chorus/products.jsonl.gz", options.data / "ubi/chorus_log.ndjson.gz"
    with TemporaryDirectory() as folder, KafkaCluster.start() as broker:
        settings = stream_settings(
            Path(folder), broker.bootstrap_servers, model_of(options, Path(folder)), options.threads,
            encoder={"enabled": not options.without_encoder},
        )  # fmt: skip
        result = run(options, settings, chorus, log)
    report(result)
    keep("chorus_replay", options, result)


if __name__ == "__main__":
    main()
