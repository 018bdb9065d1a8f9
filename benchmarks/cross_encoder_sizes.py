"""How large should the cross-encoder be? Quality on queries that nobody trained on, against the time for a pair.

    .venv/bin/python benchmarks/cross_encoder_sizes.py --data FOLDER                            # chorus/ lies in it
    .venv/bin/python benchmarks/cross_encoder_sizes.py --data FOLDER --weak-pairs 3000 --epochs 1 --products 4000

A third of the judged queries is put aside; the others, and a teacher's labels (``--weak-pairs``), train one
cross-encoder for each of ``--layers`` by ``labelstream train cross-encoder``. ``labelstream evaluate`` measures each on
the queries put aside: NDCG@10 (linear gain) and quadratic-weighted kappa, with 95 % intervals over the queries, beside
the packaged bi-encoder, which is not trained at all. The intervals overlap where differences are small: few queries
can tell only large ones.

All sizes learn from the same pairs of one teacher, ``teacher-pairs.parquet`` in ``--out``.

Latency is that of ``PairScorer`` on real pairs, one by one and 32 at once, the models in turn, the median of the
rounds. Models that were trained already (``--out``) are not trained again.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import RESULTS, ROOT, benchmark_parser, keep, show

from labelstream.actors.pair_scorer import PairScorer
from labelstream.schemas.model_settings import EncoderSettings
from labelstream.schemas.scale import LabelScale
from labelstream.streaming.importers import read_chorus_products, read_products
from labelstream.training.judgments import load_judged_pairs
from labelstream.training.split_files import TEST, TRAINING, read_rows, write_split
from labelstream.training.splits import query_holdouts

PACKAGED = "packaged"
BATCHES = (1, 32)
MEASURES = {"ndcg_linear@10": "NDCG@10, linear gain", "quadratic_kappa": "quadratic-weighted kappa"}


class Files(NamedTuple):
    """Judgements to train on, those of other queries to measure by, and the catalogue."""

    training: Path
    test: Path
    catalogue: Path


def split(data: Path, folder: Path, share: float, products: int, seed: int) -> Files:
    """Write both parts, a query wholly in one of them, and so many products, all that were judged among them."""
    rows = read_rows(data / "judgments.csv")
    write_split(folder, next(query_holdouts(rows.queries, share=share, seed=seed)), rows)
    files = Files(folder / f"{TRAINING}.csv", folder / f"{TEST}.csv", folder / "products.jsonl")
    catalogue = {product.product_id: product for product in read_chorus_products(data / "products.jsonl.gz")}
    named = [row[rows.columns.index("docid")] for row in rows.rows]
    judged = [name for name in dict.fromkeys(named) if name in catalogue]
    others = sorted(set(catalogue) - set(judged))
    random.Random(seed).shuffle(others)
    chosen = [*judged, *others][: max(products, len(judged)) if products else None]
    with files.catalogue.open("w", encoding="utf-8") as file:
        file.writelines(catalogue[name].model_dump_json(exclude_defaults=True) + "\n" for name in chosen)
    return files


def labelstream(*arguments: object) -> None:
    """Run the command as a user would."""
    command = [sys.executable, "-m", "labelstream", *(str(argument) for argument in arguments)]
    subprocess.run(command, check=True, cwd=ROOT)


def train(layers: int, files: Files, data: Path, options: Any) -> Path:
    """One cross-encoder; the folder is there already where an earlier run made it."""
    out: Path = options.out / f"layers-{layers}"
    if not out.exists():
        labelstream(
            "train", "cross-encoder", "--judgments", files.training, "--raters", data / "raters.csv",
            "--catalogue", files.catalogue, "--layout", "products", "--layers", layers,
            "--weak-pairs", options.weak_pairs, "--epochs", options.epochs, "--seed", options.seed, "--out", out,
            *(("--teacher-pairs", options.out / "teacher-pairs.parquet") if options.weak_pairs else ()),
        )  # fmt: skip
    return out


def evaluate(model: str, files: Files, out: Path) -> dict[str, Any]:
    """The measures of a model, each with its interval."""
    labelstream(
        "evaluate", "--judgments", files.test, "--catalogue", files.catalogue, "--layout", "products",
        "--cross-encoder", model, "--out", out,
    )  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    found = (metrics["labels"] or {}) | metrics["ranking"]
    return {name: found.get(name) for name in MEASURES}


def latencies(scorers: dict[str, PairScorer], files: Files, rounds: int) -> dict[str, dict[int, float]]:
    """Milliseconds for a pair, by model and batch; the models take turns, so that other work meets them alike."""
    judged, _ = load_judged_pairs(files.test, read_products(files.catalogue), LabelScale())
    queries, products = judged.texts
    taken: dict[tuple[str, int], list[float]] = {}
    for turn in range(rounds + 1):
        for name, scorer in scorers.items():
            for batch in BATCHES:
                first = turn * batch % (len(queries) - batch)
                began = time.perf_counter()
                scorer.score(queries[first : first + batch], products[first : first + batch])
                if turn:  # the first is to warm up
                    taken.setdefault((name, batch), []).append((time.perf_counter() - began) * 1000 / batch)
    return {name: {batch: statistics.median(taken[name, batch]) for batch in BATCHES} for name in scorers}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Quality against latency, one point a model."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(MEASURES), figsize=(10, 4), layout="constrained")
    for axis, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        for number, row in enumerate(rows):
            if not (found := row[measure]):
                continue
            below, above = found["value"] - found["low"], found["high"] - found["value"]
            look = {"fmt": "o", "capsize": 3, "color": f"C{number}", "label": row["model"]}
            axis.errorbar(row["ms_batch_32"], found["value"], yerr=[[below], [above]], **look)
        axis.margins(x=0.1)
        axis.set(xlabel="ms a pair, 32 at once", ylabel=f"{name} (95 % over queries)")
        axis.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with chorus/")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 6], help="sizes; the base has 6 layers")
    parser.add_argument("--weak-pairs", type=int, default=24_000, help="pairs that a teacher labels")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the pairs at most")
    parser.add_argument("--products", type=int, default=0, help="catalogue of the teacher; 0 for the whole one")
    parser.add_argument("--test-share", type=float, default=1 / 3, help="share of the judged queries put aside")
    parser.add_argument("--rounds", type=int, default=50, help="timed calls of each model and batch")
    parser.add_argument("--threads", type=int, default=1, help="compute threads while the time is taken")
    parser.add_argument("--seed", type=int, default=1, help="of the split and the training")
    parser.add_argument("--out", type=Path, default=RESULTS / "cross_encoder_sizes", help="folder of the models")
    options = parser.parse_args()
    data = options.data.resolve() / "chorus"
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    files = split(data, options.out, options.test_share, options.products, options.seed)
    models = {PACKAGED: PACKAGED}
    models |= {f"{layers} layers": str(train(layers, files, data, options)) for layers in options.layers}
    found = {name: evaluate(model, files, options.out / f"{name}-eval") for name, model in models.items()}
    torch.set_num_threads(options.threads)
    encoders = {name: EncoderSettings(model="" if model == PACKAGED else model) for name, model in models.items()}
    scorers = {name: PairScorer(encoder, LabelScale()) for name, encoder in encoders.items()}
    times = latencies(scorers, files, options.rounds)
    rows = [
        {"model": name, **found[name], **{f"ms_batch_{batch}": times[name][batch] for batch in BATCHES}}
        for name in models
    ]
    keep("cross_encoder_sizes", options, {"rows": rows})
    plot(rows, RESULTS / "cross_encoder_sizes.png")
    show("cross-encoders by size", ("model", *MEASURES, *(f"ms a pair, {b} at once" for b in BATCHES)), [
        (row["model"], *(_measure(row[name]) for name in MEASURES), *(row[f"ms_batch_{b}"] for b in BATCHES))
        for row in rows
    ])  # fmt: skip


def _measure(measure: dict[str, float] | None) -> str:
    return "" if measure is None else f"{measure['value']:.3f} ({measure['low']:.3f} to {measure['high']:.3f})"


if __name__ == "__main__":
    main()
