"""Several evaluations measured as one: what models said that were each trained on another part of the queries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats, LabelScale
from labelstream.training.agreement import DecisionRule, decide
from labelstream.training.evaluation import Evaluation, evaluate
from labelstream.training.intervals import DEFAULT_RESAMPLES
from labelstream.training.judgments import MISSING, JudgedPairs
from labelstream.training.predictions import PREDICTIONS, read_predictions

_NEEDED = ("query", "product_id", "rating", "level", "score")
_CARTS = "add_to_carts"


class Pooled(NamedTuple):
    """Evaluations as one.

    Attributes:
        evaluation: Its metrics have ``pooled`` beside the others: which files were read.
        table: All predictions, those of one evaluation after another; ``run`` says which it is, from 0.
    """

    evaluation: Evaluation
    table: pa.Table


def pool(
    folders: Sequence[Path],
    scale: LabelScale,
    *,
    rule: DecisionRule = "argmax",
    cutoff: int | None = None,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
) -> Pooled:
    """Measure evaluations together, with intervals over all their queries.

    Args:
        folders: Of ``labelstream evaluate``, each once.
        scale: Of their levels.
        rule: From probabilities to a level.
        cutoff: k of ATC@k; None leaves it out.
        seed: Of the resamples.
        resamples: How many.

    Raises:
        SettingsError: A folder has no predictions, or they are of different kinds or another scale, or ATC is wanted
            and they have no adds to cart.
    """
    paths = [folder / f"{PREDICTIONS}.parquet" for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise SettingsError("an evaluation is named twice; name each folder once")
    tables = [read_predictions(path, _NEEDED) for path in paths]
    _require_one_kind(tables, paths, scale)
    runs = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    table = pa.concat_tables(tables)
    probabilities = _probabilities(table, scale)
    if probabilities is not None:
        decided = pa.array(decide(probabilities, rule))
        table = table.set_column(table.column_names.index("predicted_level"), "predicted_level", decided)
    carts: dict[str, Any] = {}
    if cutoff is not None:
        if _CARTS not in table.column_names:
            raise SettingsError(f"{paths[0]}: no column {_CARTS}; evaluate with --atc")
        carts = {"add_to_carts": table[_CARTS].to_numpy(), "cutoff": cutoff}
    found = evaluate(
        _judged(table), probabilities, scale, scores=table["score"].to_numpy(), rule=rule, runs=runs, seed=seed,
        resamples=resamples, **carts,
    )  # fmt: skip
    sources = [_source(path, len(part)) for path, part in zip(paths, tables, strict=True)]
    metrics = found.metrics | {"pooled": sources}
    return Pooled(Evaluation(metrics, found.per_query), table.append_column("run", pa.array(runs)))


def _require_one_kind(tables: Sequence[pa.Table], paths: Sequence[Path], scale: LabelScale) -> None:
    for table, path in zip(tables, paths, strict=True):
        if table.column_names != tables[0].column_names:
            raise SettingsError(
                f"{path}: other columns than {paths[0]}; pool evaluations of one scale, all with --raters or none"
            )
        if not {f"probability_{name}" for name in scale.levels} <= set(table.column_names):
            raise SettingsError(f"{path}: not of the scale {list(scale.levels)}; set the scale of these evaluations")
        if _has_probabilities(table) != _has_probabilities(tables[0]):
            raise SettingsError(f"{path}: labels and rankings cannot be pooled; name evaluations of one kind of model")


def _has_probabilities(table: pa.Table) -> bool:
    return bool(table["expected_score"].null_count == 0)


def _probabilities(table: pa.Table, scale: LabelScale) -> Floats | None:
    if not _has_probabilities(table):
        return None
    return np.stack([table[f"probability_{name}"].to_numpy() for name in scale.levels], axis=1)


def _judged(table: pa.Table) -> JudgedPairs:
    """The pairs that were judged; no measure reads a product's text, so its id stands for it."""
    raters = [name for name in table.column_names if name.startswith("rater_")]
    said = [table[name].fill_null(MISSING).to_numpy() for name in raters]
    return JudgedPairs(
        tuple(table["query"].to_pylist()),
        tuple(Product(product_id=name, title=name) for name in table["product_id"].to_pylist()),
        table["rating"].to_numpy(),
        table["level"].to_numpy(),
        np.stack(said, axis=1) if said else None,
    )


def _source(path: Path, pairs: int) -> dict[str, object]:
    return {"predictions": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "pairs": pairs}
