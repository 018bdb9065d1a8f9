"""A peer on the same task: Ray Data's LLM batch processor, against our stream.

    .venv/bin/python benchmarks/ray_data_llm.py                                  # 8,192 pairs
    .venv/bin/python benchmarks/ray_data_llm.py --pairs 2048 --batch-records 512    # a quick look

Both judge the same pairs with the same model and the same vLLM arguments, one after the other:

* ``stream``    pairs as JSON in a real Kafka, labels in the lake and the labels topic, as in stream_vs_raw.py
* ``ray data``  ``ray.data.llm``: the ready-made prompts from a Parquet file, through its tokenize and engine stages,
                one token and its log-probabilities each, into Parquet; it reads and writes files, joins nothing and
                keeps no offsets

Neither rate counts start-up. The stream's runs from the first finished batch to the last, pairs between them. Ray Data
works on several blocks at once and hands them over together, so the time between its first and its last block says
little; its rate is that of the pairs that a long run has more than a short one, over the time that it takes more.
Its processor always uses vLLM's asynchronous engine, which has a process of its own.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from common import (
    Pairs,
    distinct_pairs,
    distinct_products,
    keep,
    model_of,
    model_parser,
    own_process,
    show,
    stream_round,
    stream_settings,
)
from raw import label_sampling

from labelstream.actors.application import Application
from labelstream.actors.vllm_engine import engine_arguments, engine_environment
from labelstream.schemas.product import product_text
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.settings import Settings, StreamSettings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.importers import publish_products
from labelstream.streaming.topics import ensure_topics

# What is in flight at once; Ray Data's default of 8 batches of 32 keeps vLLM's 256 sequences just about full.
PEER_BATCH, PEER_BATCHES = 64, 16


class RayData:
    """Ray Data's processor, in a process and a Ray of its own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder

    def __call__(self, prompts: list[str], block: int) -> dict[str, Any]:
        """Judge a quarter of the prompts, then all of them."""
        quarter = len(prompts) // 4
        short, long = self.seconds(prompts[:quarter], block), self.seconds(prompts, block)
        counted = len(prompts) - quarter
        return {
            "pairs_per_second": counted / (long - short), "pairs_counted": counted,
            "seconds_with_start": {"quarter": short, "all": long},
        }  # fmt: skip

    def seconds(self, prompts: list[str], block: int) -> float:
        """How long a run takes, start-up included."""
        import ray

        environment = engine_environment(self.settings.labeller) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
        ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="error")
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        with TemporaryDirectory(dir=self.folder) as folder:
            source, target = Path(folder) / "prompts.parquet", Path(folder) / "answers"
            pq.write_table(pa.table({"prompt": prompts}), source)
            start = time.perf_counter()
            dataset = ray.data.read_parquet(str(source)).repartition(max(1, len(prompts) // block))
            self._processor(environment)(dataset).write_parquet(str(target))
            seconds = time.perf_counter() - start
            assert sum(pq.read_metadata(file).num_rows for file in target.glob("*.parquet")) == len(prompts)
        ray.shutdown()
        return seconds

    def _processor(self, environment: dict[str, str]) -> Any:
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        arguments = engine_arguments(self.settings, Path(self.settings.labeller.model))
        model = arguments.pop("model")
        sampling = label_sampling(self.settings)
        config = vLLMEngineProcessorConfig(
            model_source=model,
            engine_kwargs=arguments | {"scheduling_policy": "fcfs"},
            batch_size=PEER_BATCH,
            max_concurrent_batches=PEER_BATCHES,
            concurrency=1,
            chat_template_stage=False,
            detokenize_stage=False,
            prepare_multimodal_stage=False,
            placement_group_config={"bundles": [{"CPU": 1}]},  # its default asks for a GPU
            log_engine_metrics=False,
            runtime_env={"env_vars": environment},
        )
        return build_processor(
            config,
            preprocess=lambda row: {"prompt": row["prompt"], "sampling_params": sampling},
            postprocess=lambda row: {"tokens": row["num_input_tokens"], "answer": row["generated_tokens"]},
        )


def measure_stream(settings: Settings, pairs: Pairs, warm_up: Pairs) -> dict[str, Any]:
    ensure_topics(settings.kafka)
    products = {product.product_id: product for _, product in [*pairs, *warm_up]}
    sent = publish_products(products.values(), settings.kafka)
    with Application(settings) as application:
        stream_round(application, settings, warm_up, sent + len(warm_up))
        measured = stream_round(application, settings, pairs, sent + len(warm_up) + len(pairs))
        application.stop()
    return measured


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Our stream first, then the peer; nothing of the one is left when the other starts."""
    products = distinct_products(options.pairs)
    pairs, warm_up = (
        distinct_pairs(products, options.pairs, 1),
        distinct_pairs(products, StreamSettings().batch_records, 2),
    )
    batch = {} if options.batch_records is None else {"batch_records": options.batch_records}
    with KafkaCluster.start() as broker:
        settings = stream_settings(
            folder, broker.bootstrap_servers, model_of(options, folder), options.threads, encoder={"enabled": False},
            stream=batch,
        )  # fmt: skip
        stream = measure_stream(settings, pairs, warm_up)
    prompt = Prompt(settings.scale)
    prompts = [prompt.text(query, product_text(product)) for query, product in pairs]
    with own_process(RayData, settings, folder) as ray_data:
        peer = ray_data(prompts, settings.stream.batch_records)
    return {"stream": stream, "ray_data": peer, "ratio": stream["pairs_per_second"] / peer["pairs_per_second"]}


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=8192)
    parser.add_argument(
        "--batch-records", type=int, help="stream.batch_records and Ray Data's block, if not the default"
    )
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    stream, peer = result["stream"]["pairs_per_second"], result["ray_data"]["pairs_per_second"]
    show("pairs per second", ("", "pairs/s"), [("stream", stream), ("ray data", peer), ("ratio", result["ratio"])])
    keep("ray_data_llm", options, result)


if __name__ == "__main__":
    main()
