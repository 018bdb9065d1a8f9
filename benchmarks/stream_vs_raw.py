"""What the whole stream keeps of raw vLLM's throughput.

    .venv/bin/python benchmarks/stream_vs_raw.py                      # 8,192 pairs, 3 rounds
    .venv/bin/python benchmarks/stream_vs_raw.py --pairs 3072 --rounds 1 --batch-records 512    # a quick look
    .venv/bin/python benchmarks/stream_vs_raw.py --with-encoder

Each round makes new pairs, none repeated, and gives the same ones to both in turn:

* ``stream``  pairs as JSON in a real Kafka → Ingest → Labeller → lake and labels topic, everything committed
* ``raw``     ``LLM.generate`` on the same prompts as ready-made token ids, all at once, with the same engine
              arguments, in a process of its own; with ``--with-encoder``, plus the pair scorer on the same texts
              all at once, one after the other

The stream's time runs from the first to the last commit of a round, and counts the pairs between them; so
start-up and a first batch are left out, and nothing is ever half counted. Both stay loaded while the other works;
``raw alone`` is measured before the stream is started, and shows whether the idle stream slows raw down.
``of raw, cpu`` compares processor seconds (all of the stream's processes but broker and sender) and stands a busy
machine, best with ``--threads 1``: a thread that waits for another burns time. The second table tells where a
round's processor time went.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import (
    Pairs,
    Texts,
    distinct_pairs,
    distinct_products,
    keep,
    model_of,
    model_parser,
    own_process,
    show,
    stream_round,
    stream_settings,
    texts_of,
)
from raw import Cost, RawEngine, now, since

from labelstream.actors.application import Application
from labelstream.actors.model_environment import model_environment
from labelstream.actors.pair_scorer import PairScorer
from labelstream.actors.vllm_engine import engine_environment
from labelstream.schemas.settings import Settings, StreamSettings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.importers import publish_products
from labelstream.streaming.topics import ensure_topics

CostOf = Callable[[Texts], Cost]


def raw_engine(settings: Settings) -> CostOf:
    """What raw vLLM costs for some pairs."""
    return RawEngine(settings).cost


def raw_scorer(settings: Settings) -> CostOf:
    """What the pair scorer costs for some pairs."""
    scorer = PairScorer(settings.encoder)

    def cost(texts: Texts) -> Cost:
        start = now()
        scorer.score(*texts)
        return since(start)

    return cost


def measure(options: argparse.Namespace, folder: Path, broker: KafkaCluster) -> dict[str, Any]:
    """All rounds; round 0 is small and only warms up."""
    stream = {
        name: value for name in ("batch_records", "batches_in_flight") if (value := getattr(options, name)) is not None
    }
    settings = stream_settings(
        folder, broker.bootstrap_servers, model_of(options, folder), options.threads, stream=stream,
        encoder={"enabled": options.with_encoder},
    )  # fmt: skip
    ensure_topics(settings.kafka)
    products = distinct_products(options.pairs)
    sent = publish_products(products, settings.kafka)
    with ExitStack() as stack:
        arms = [stack.enter_context(own_process(raw_engine, settings, **engine_environment(settings.labeller)))]
        if options.with_encoder:
            arms.append(stack.enter_context(own_process(raw_scorer, settings, **model_environment(settings.encoder))))
        alone = [raw_round(arms, distinct_pairs(products, options.pairs, seed)) for seed in (-2, -1)]
        application = stack.enter_context(Application(with_threads(settings, options.stream_threads)))
        rounds: list[dict[str, Any]] = []
        for number in range(options.rounds + 1):
            pairs = distinct_pairs(products, options.pairs if number else options.pairs // 4, number)
            sent += len(pairs)
            one = stream_round(application, settings, pairs, sent)
            one |= raw_round(arms, pairs)
            one["of_raw"] = one["pairs_per_second"] / one["raw_pairs_per_second"]
            one["of_raw_cpu"] = one["raw_processor_seconds"] / stream_processor_seconds(one)
            rounds.append(one)
        application.stop()
    medians = {name: statistics.median(one[name] for one in rounds[1:]) for name in ("of_raw", "of_raw_cpu")}
    return medians | {"raw_alone_pairs_per_second": alone[1]["raw_pairs_per_second"], "rounds": rounds[1:]}


def with_threads(settings: Settings, threads: int | None) -> Settings:
    """The settings with another number of compute threads, where one is given."""
    if threads is None:
        return settings
    sections = {
        name: getattr(settings, name).model_copy(update={"threads": threads}) for name in ("labeller", "encoder")
    }
    return settings.model_copy(update=sections)


def raw_round(arms: list[Any], pairs: Pairs) -> dict[str, float]:
    """One raw model after the other on a round's pairs."""
    costs = [arm(texts_of(pairs)) for arm in arms]
    wall, processor = (sum(cost[kind] for cost in costs) for kind in (0, 1))
    return {"raw_pairs_per_second": len(pairs) / wall, "raw_processor_seconds": processor}


def stream_processor_seconds(one: dict[str, Any]) -> float:
    """All that a round's stream used, without broker and sender."""
    used: dict[str, float] = one["processor_seconds"]
    return sum(seconds for name, seconds in used.items() if name not in {"broker", "this process"})


def report(result: dict[str, Any]) -> None:
    columns = ("pairs_per_second", "raw_pairs_per_second", "of_raw", "of_raw_cpu")
    rows = [(number, *(one[name] for name in columns)) for number, one in enumerate(result["rounds"], 1)]
    rows.append(("median", "", "", result["of_raw"], result["of_raw_cpu"]))
    show("pairs per second", ("round", "stream", "raw", "of raw", "of raw, cpu"), rows)
    used = result["rounds"][-1]["processor_seconds"]
    show("last round", ("process", "cpu s"), [entry for entry in used.items() if entry[1] >= 0.05])


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=8192, help="pairs of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stream-threads", type=int, help="the same for the stream's models only")
    parser.add_argument("--with-encoder", action="store_true", help="score every pair with the packaged encoder too")
    parser.add_argument("--batch-records", type=int, help="stream.batch_records, if not the default")
    parser.add_argument("--batches-in-flight", type=int, help="stream.batches_in_flight, if not the default")
    options = parser.parse_args()
    if options.pairs < 3 * (batch := options.batch_records or StreamSettings().batch_records):
        parser.error(
            f"--pairs {options.pairs}: at least three batches of {batch} are needed to measure between commits"
        )
    with TemporaryDirectory() as folder, KafkaCluster.start() as broker:
        result = measure(options, Path(folder), broker)
    report(result)
    keep("stream_vs_raw_with_encoder" if options.with_encoder else "stream_vs_raw", options, result)


if __name__ == "__main__":
    main()
