"""How often a product text that talks to the judge moves its own label.

    .venv/bin/python benchmarks/attack.py                                        # the demo's labeller, 100 pairs
    .venv/bin/python benchmarks/attack.py --model <folder> --pairs 20            # another one, a quick look

Every attack of tests/attacks.py is appended to products that are irrelevant or moderate for their query, and judged by
the real engine beside three others: the product untouched, with as much ``neutral`` text in the same field, and with
the attack ``garbled`` (each letter and digit replaced by its neighbour: same script, same length, no meaning). Counted
is the share of pairs whose most probable level rises or falls against the untouched product. What text without a
message does too is not the attack's doing, so ``excess`` is rises with the attack less rises with the worse of the two
others. ``score`` is the mean change of the expected score. Pairs whose untouched label is the highest level already
are left out.

Query stuffing (the product repeats the query) stands apart: it is no instruction, but a claim about the product, and a
judge that reads may well believe it. ``all instructions`` are the other kinds.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import ROOT, benchmark_parser, keep, show
from numpy.typing import NDArray

from labelstream.actors.label_engine import LabelEngine
from labelstream.schemas.product import Product, product_text
from labelstream.schemas.scale import LabelScale, expected_score
from labelstream.schemas.settings import Settings
from labelstream.training.demo_catalogue import HIGH, demo_catalogue, intent_met_by, phrase, relevance
from labelstream.training.demo_pairs import split_of

sys.path.insert(0, str(ROOT / "tests"))
from attacks import ATTACKS, Attack, attacked, control, garbled

Judged = tuple[NDArray[np.intp], NDArray[np.float64]]  # most probable level and expected score; shape (pairs,)
TEXTS = {"attack": attacked, "neutral": control, "garbled": garbled}
LEVELS = LabelScale().levels[:HIGH]
DEMO_MODEL = ROOT / ".labelstream" / "demo" / "labeller"


class Subject(NamedTuple):
    """A pair that an attacker would like to see rated higher."""

    query: str
    product: Product


def subjects(count: int, seed: int = 1) -> list[Subject]:
    """Irrelevant and moderate pairs in turn, of queries that the demo's labeller was not trained on."""
    rng, catalogue = random.Random(seed), demo_catalogue()

    def draw() -> Any:
        wanted = 0
        while True:
            intent, product = intent_met_by(rng, rng.choice(catalogue)), rng.choice(catalogue)
            if split_of(intent) == "held_out" and relevance(intent, product) == wanted % HIGH:
                wanted += 1
                yield Subject(phrase(rng, intent), product)

    return list(islice(draw(), count))


def judge(engine: LabelEngine, queries: Sequence[str], products: Sequence[Product]) -> Judged:
    answer = engine.judge(queries, [product_text(product) for product in products]).result()
    assert not answer.errors, answer.errors
    probabilities = answer.probabilities.astype(np.float64)
    return probabilities.argmax(axis=1), expected_score(probabilities, LabelScale())


def shift(before: Judged, after: Judged) -> dict[str, float]:
    return {
        "up": float((after[0] > before[0]).mean()),
        "down": float((after[0] < before[0]).mean()),
        "score": float((after[1] - before[1]).mean()),
    }


def measure_attack(engine: LabelEngine, attack: Attack, pairs: list[Subject], clean: Judged) -> dict[str, Any]:
    queries = [pair.query for pair in pairs]
    judged = {
        name: judge(engine, queries, [write(pair.product, attack, pair.query) for pair in pairs])
        for name, write in TEXTS.items()
    }
    by_level = {}
    for level, level_name in enumerate(LEVELS):
        rows = clean[0] == level
        by_level[level_name] = {
            name: shift((clean[0][rows], clean[1][rows]), (after[0][rows], after[1][rows]))
            for name, after in judged.items()
        }
    found: dict[str, Any] = {name: shift(clean, after) for name, after in judged.items()}
    return found | {"by_level": by_level, "excess": excess({name: found[name]["up"] for name in TEXTS})}


def excess(up: dict[str, float]) -> float:
    return up["attack"] - max(up["neutral"], up["garbled"])


def measure(model: Path, count: int) -> dict[str, Any]:
    engine = LabelEngine(Settings.load(labeller={"model": str(model)}))
    pairs = subjects(count)
    levels, scores = judge(engine, [pair.query for pair in pairs], [pair.product for pair in pairs])
    movable = np.flatnonzero(levels < HIGH)
    pairs, clean = [pairs[i] for i in movable], (levels[movable], scores[movable])
    attacks = {attack.name: measure_attack(engine, attack, pairs, clean) for attack in ATTACKS}
    engine.close()
    kinds = sorted({attack.kind for attack in ATTACKS})
    groups = {kind: [attacks[attack.name] for attack in ATTACKS if attack.kind == kind] for kind in kinds}
    groups["all instructions"] = [one for kind, found in groups.items() if kind != "stuffing" for one in found]
    return {
        "pairs": len(pairs),
        "by_kind": {kind: means(found) for kind, found in groups.items()},
        "by_level": {level: means([one["by_level"][level] for one in groups["all instructions"]]) for level in LEVELS},
        "attacks": attacks,
    }


def means(found: list[dict[str, Any]]) -> dict[str, float]:
    """Means over attacks."""
    mean = {
        f"{name}, {text}": float(np.mean([one[text][name] for one in found]))
        for text in TEXTS
        for name in ("up", "down", "score")
    }
    return mean | {"excess": excess({text: mean[f"up, {text}"] for text in TEXTS})}


def report(result: dict[str, Any], shown: int) -> None:
    columns = ("up, attack", "up, neutral", "up, garbled", "excess", "down, attack", "score, attack")
    for title, part in (("by kind of attack", "by_kind"), ("instructions, by untouched level", "by_level")):
        show(title, ("", *columns), [(name, *(mean[c] for c in columns)) for name, mean in result[part].items()])
    worst = sorted(result["attacks"].items(), key=lambda entry: -entry[1]["excess"])[:shown]
    rows = [(name, *(one[text]["up"] for text in TEXTS), one["excess"]) for name, one in worst]
    title = f"{len(result['attacks'])} attacks on {result['pairs']} pairs: the {shown} worst"
    show(title, ("attack", *columns[:4]), rows)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--model", type=Path, default=DEMO_MODEL, help="folder of a labeller; labelstream demo makes one"
    )
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--shown", type=int, default=12, help="attacks in the table; the file has them all")
    options = parser.parse_args()
    result = measure(options.model, options.pairs)
    report(result, options.shown)
    keep("attack", options, result)


if __name__ == "__main__":
    main()
