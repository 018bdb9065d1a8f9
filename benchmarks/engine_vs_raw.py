"""How much of raw vLLM's throughput is left when pairs come as text, through an actor.

    .venv/bin/python benchmarks/engine_vs_raw.py                           # 2,048 pairs, 3 rounds
    .venv/bin/python benchmarks/engine_vs_raw.py --pairs 512 --rounds 1    # a quick look

Every arm has its own process with the same engine settings, and all are loaded before the first is measured.
Each round makes new pairs, none repeated, and gives the same ones to every arm in turn:

* ``raw``      ``LLM.generate`` on ready-made token ids, all at once: the baseline
* ``direct``   ``LabelEngine.judge`` on text, in batches
* ``actor``    the ``Labeller`` actor through Ray, from this process, in batches
* ``async``    ``AsyncLLM`` on ready-made token ids, all at once (with ``--with-async``)

Compare the ratios of one run; pairs per second depend on what else the machine does. ``of_raw`` compares wall
clocks and wants an idle machine; ``of_raw_cpu`` compares the processor seconds of the arm's own process and stands
a busy one (best with ``--threads 1``: a thread that waits for another burns time).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from common import (
    Texts,
    distinct_pairs,
    distinct_products,
    keep,
    model_of,
    model_parser,
    show,
    texts_of,
    token_ids_of,
)
from raw import Cost, RawEngine, label_sampling, now, since

from labelstream.actors.label_engine import LabelEngine
from labelstream.actors.labeller import Labeller, labeller_options
from labelstream.actors.vllm_engine import engine_arguments
from labelstream.schemas.settings import Settings


def make_pairs(count: int, round_number: int) -> Texts:
    """Distinct pairs that no other round has."""
    return texts_of(distinct_pairs(distinct_products(count), count, round_number))


def batches(pairs: Texts, size: int) -> list[Texts]:
    queries, products = pairs
    return [(queries[i : i + size], products[i : i + size]) for i in range(0, len(queries), size)]


class DirectArm:
    def __init__(self, settings: Settings, batch: int, in_flight: int) -> None:
        self.engine, self.batch, self.in_flight = LabelEngine(settings), batch, in_flight

    def cost(self, pairs: Texts) -> Cost:
        start = now()
        waiting: deque[Any] = deque()
        for queries, products in batches(pairs, self.batch):
            if len(waiting) == self.in_flight:
                waiting.popleft().result()
            waiting.append(self.engine.judge(queries, products))
        for future in waiting:
            future.result()
        return since(start)


class TimedLabeller(Labeller):
    async def processor_seconds(self) -> float:
        return time.process_time()


class ActorArm:
    """In this process; the actor is elsewhere."""

    def __init__(self, settings: Settings, batch: int, in_flight: int) -> None:
        self.actor = ray.remote(TimedLabeller).options(**labeller_options(settings)).remote(settings)
        self.batch, self.in_flight = batch, in_flight
        ray.get(self.actor.ping.remote())

    def cost(self, pairs: Texts) -> Cost:
        start = time.perf_counter(), ray.get(self.actor.processor_seconds.remote())
        waiting: deque[Any] = deque()
        for queries, products in batches(pairs, self.batch):
            if len(waiting) == self.in_flight:
                ray.get(waiting.popleft())
            waiting.append(self.actor.judge.remote(queries, products))
        ray.get(list(waiting))
        wall = time.perf_counter() - start[0]
        return wall, ray.get(self.actor.processor_seconds.remote()) - start[1]


class AsyncArm:
    def __init__(self, settings: Settings) -> None:
        from vllm import AsyncEngineArgs, SamplingParams
        from vllm.v1.engine.async_llm import AsyncLLM

        self.settings = settings
        arguments = engine_arguments(settings, Path(settings.labeller.model))
        self.engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        self.sampling = SamplingParams(**label_sampling(settings))
        self.requests = 0

    async def answer(self, token_ids: list[int]) -> None:
        self.requests += 1
        async for _ in self.engine.generate({"prompt_token_ids": token_ids}, self.sampling, str(self.requests)):
            pass

    async def cost(self, pairs: Texts) -> Cost:
        prompts = token_ids_of(self.settings, *pairs)
        start = now()
        await asyncio.gather(*(self.answer(ids) for ids in prompts))
        return since(start)


class Elsewhere:
    """An arm in a process of its own, with the same environment as the Labeller's."""

    def __init__(self, arm: type, settings: Settings, *arguments: Any, **environment: str) -> None:
        variables = labeller_options(settings)["runtime_env"]["env_vars"] | environment
        options = {"num_cpus": 0, "runtime_env": {"env_vars": variables}}
        self.actor = ray.remote(arm).options(**options).remote(settings, *arguments)
        ray.get(self.actor.__ray_ready__.remote())

    def cost(self, pairs: Texts) -> Cost:
        cost: Cost = ray.get(self.actor.cost.remote(pairs))
        return cost


def measure(options: argparse.Namespace, settings: Settings) -> dict[str, list[Cost]]:
    """Cost of every arm and round; the first round only warms up."""
    arms: dict[str, Any] = {
        "raw": Elsewhere(RawEngine, settings),
        "direct": Elsewhere(DirectArm, settings, options.batch, options.in_flight),
        "actor": ActorArm(settings, options.batch, options.in_flight),
    }
    if options.with_async:
        arms["async"] = Elsewhere(AsyncArm, settings, VLLM_ENABLE_V1_MULTIPROCESSING="1")
    costs: dict[str, list[Cost]] = {name: [] for name in arms}
    for number in range(options.rounds + 1):
        pairs = make_pairs(options.pairs if number else 256, number)
        for name in random.sample(sorted(arms), len(arms)):
            costs[name].append(arms[name].cost(pairs))
    return {name: of_arm[1:] for name, of_arm in costs.items()}


def ratios(raw: list[Cost], arm: list[Cost], kind: int) -> list[float]:
    """Raw's cost over the arm's, round by round: above 1 the arm is quicker."""
    return [round(theirs[kind] / ours[kind], 3) for theirs, ours in zip(raw, arm, strict=True)]


def report(costs: dict[str, list[Cost]], pairs: int) -> dict[str, Any]:
    """Medians over the rounds. The processor seconds of ``async`` are its client's only, so they are left out."""
    arms: dict[str, Any] = {}
    for name, arm in costs.items():
        wall, processor = (ratios(costs["raw"], arm, kind) for kind in (0, 1))
        arms[name] = {
            "pairs_per_second": round(pairs / statistics.median(cost[0] for cost in arm), 1),
            "of_raw": round(statistics.median(wall), 3),
            "of_raw_by_round": wall,
        }
        if name != "async":
            arms[name] |= {"of_raw_cpu": round(statistics.median(processor), 3), "of_raw_cpu_by_round": processor}
    columns = ("pairs_per_second", "of_raw", "of_raw_cpu")
    rows = [(name, *(arm.get(column, "") for column in columns)) for name, arm in arms.items()]
    show("what is left of raw vLLM", ("arm", "pairs/s", "of raw", "of raw, cpu"), rows)
    return {"pairs": pairs, "arms": arms}


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=2048, help="pairs of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1024, help="pairs of one judge call")
    parser.add_argument("--in-flight", type=int, default=3, help="judge calls under way")
    parser.add_argument("--with-async", action="store_true", help="measure AsyncLLM too (30 s more)")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        model = model_of(options, Path(folder))
        settings = Settings.load(labeller={"model": str(model), "threads": options.threads})
        ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, namespace=settings.ray.namespace)
        result = report(measure(options, settings), options.pairs)
        ray.shutdown()
    keep("engine_vs_raw", options, result)


if __name__ == "__main__":
    main()
