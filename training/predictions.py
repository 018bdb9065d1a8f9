"""Every single prediction as a table, so that somebody else can compute every measure again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.scale import Floats, LabelScale, expected_score
from labelstream.training.agreement import DecisionRule, checked_probabilities, decide
from labelstream.training.durable_files import whole_file
from labelstream.training.judgments import MISSING, JudgedPairs
from labelstream.training.ranking_metrics import rank

METRICS_FILE = "metrics.json"
PREDICTIONS = "predictions"


def ranking_scores(probabilities: Floats | None, scores: Floats | None, scale: LabelScale) -> Floats:
    """What pairs are ranked by: the scores where there are some, else the expected score of the probabilities.

    Raises:
        ValueError: There is neither.
    """
    if scores is not None:
        return np.asarray(scores, np.float64)
    if probabilities is None:
        raise ValueError("give probabilities, or scores, or both")
    return expected_score(probabilities, scale)


def predictions_table(
    judged: JudgedPairs,
    probabilities: Floats | None,
    scale: LabelScale,
    *,
    scores: Floats | None = None,
    rule: DecisionRule = "argmax",
    add_to_carts: Floats | None = None,
) -> pa.Table:
    """One row a pair, in the order of the pairs.

    Columns: ``query``, ``normalised_query`` (what pairs are grouped by), ``product_id``, ``rating``, ``level``,
    ``predicted_level``, ``probability_<level name>`` for each level, ``expected_score``, ``score`` (what ranks),
    ``position`` (within the query by the score, ties broken), then ``rater_<n>_level`` where single raters are known
    and ``add_to_carts`` where they are given. Null where there is nothing: predictions of a pure ranker, a rater who
    skipped a pair.

    Args:
        judged: The pairs.
        probabilities: Shape (pairs, levels), or None for a pure ranker.
        scale: Our label scale.
        scores: Shape (pairs,), or None to rank by the expected score.
        rule: From probabilities to a level.
        add_to_carts: How often each pair was added; shape (pairs,).

    Raises:
        ValueError: Another shape, a row that is no distribution, a score that is NaN, or neither of the two.
    """
    pairs, levels = len(judged), len(scale.levels)
    if probabilities is not None:
        probabilities = checked_probabilities(probabilities, pairs, levels)
    ranked_by = ranking_scores(probabilities, scores, scale)
    ranking = rank(judged.queries, judged.product_ids, ranked_by)
    nothing = pa.nulls(pairs, pa.float64())
    columns: dict[str, Any] = {
        "query": pa.array(judged.queries, pa.string()),
        "normalised_query": pa.array([normalise_query(query) for query in judged.queries], pa.string()),
        "product_id": pa.array(judged.product_ids, pa.string()),
        "rating": judged.ratings,
        "level": judged.levels,
        "predicted_level": pa.nulls(pairs, pa.int64()) if probabilities is None else decide(probabilities, rule),
    }
    for level, name in enumerate(scale.levels):
        columns[f"probability_{name}"] = nothing if probabilities is None else probabilities[:, level].copy()
    columns["expected_score"] = nothing if probabilities is None else expected_score(probabilities, scale)
    columns |= {"score": ranked_by, "position": ranking.positions}
    for number, said in enumerate(() if judged.rater_levels is None else judged.rater_levels.T, start=1):
        columns[f"rater_{number}_level"] = pa.array(said.copy(), mask=said == MISSING)
    if add_to_carts is not None:
        columns["add_to_carts"] = np.asarray(add_to_carts, np.float64)
    return pa.table(columns)


def read_predictions(path: Path, needed: Sequence[str]) -> pa.Table:
    """Read predictions that :func:`write_measured` has written.

    Args:
        path: Of the Parquet file.
        needed: Columns that it must have.

    Raises:
        SettingsError: It cannot be read, or lacks a column.
    """
    try:
        table = pa.parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        remedy = f"name a {PREDICTIONS}.parquet that `labelstream evaluate` has written"
        reason = error if path.exists() else "no such file"  # pyarrow says no more than its name
        raise SettingsError(f"{path}: {reason}; {remedy}") from error
    if missing := [name for name in needed if name not in table.column_names]:
        raise SettingsError(f"{path}: no column {', '.join(missing)}; evaluate again")
    return table


def write_measured(folder: Path, metrics: dict[str, Any], table: pa.Table) -> None:
    """Write ``predictions.parquet``, ``predictions.csv`` and, last, ``metrics.json``, each in one step.

    ``metrics.json`` names the SHA-256 of the other two, so that files of two runs are not taken for one.

    Args:
        folder: Made where it is not there.
        metrics: In the form of JSON, None for what is not defined.
        table: Of :func:`predictions_table`.

    Raises:
        SettingsError: The folder may not be written.
        TransientError: The disk is full, or does not answer.
    """
    parquet, text = f"{PREDICTIONS}.parquet", f"{PREDICTIONS}.csv"
    with whole_file(folder / parquet) as file:
        pa.parquet.write_table(table, file, compression="zstd")
    with whole_file(folder / text) as file:
        pa.csv.write_csv(table, file)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (parquet, text)}
    written = json.dumps(metrics | {"predictions_sha256": digests}, indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(folder / METRICS_FILE) as file:
        file.write(written.encode() + b"\n")
