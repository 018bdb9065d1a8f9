"""Measure a labeller or a ranker against human judgements, with intervals, beside the humans among themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelstream.schemas.scale import Floats, LabelScale
from labelstream.training.agreement import (
    ADJUDICATED,
    CALIBRATION_BINS,
    DecisionRule,
    checked_probabilities,
    compare_raters,
)
from labelstream.training.intervals import CONFIDENCE, DEFAULT_RESAMPLES, Draws, mean, sums_of_values
from labelstream.training.judgments import Integers, JudgedPairs
from labelstream.training.label_evaluation import measure_labels, measure_raters
from labelstream.training.predictions import predictions_table, ranking_scores, write_measured
from labelstream.training.ranking_metrics import (
    ADD_TO_CART_CUTOFF,
    GAINS,
    NDCG_CUTOFF,
    add_to_cart_share,
    ndcg,
    rank,
)

__all__ = ["Evaluation", "evaluate", "predictions_table", "write_evaluation"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured.

    Attributes:
        metrics: In the form of JSON: ``data``, ``labels`` (None without probabilities), ``ranking``, ``humans`` and
            ``humans_ranking`` (both empty without single raters), and ``method``. A measure is ``{value, low, high}``,
            None where it is not defined.
        per_query: Values of each ranking measure, NaN where not defined, for a paired comparison; shape (queries,),
            the queries in the order in which they first appear.
    """

    metrics: dict[str, Any]
    per_query: dict[str, Floats]


def evaluate(
    judged: JudgedPairs,
    probabilities: Floats | None,
    scale: LabelScale,
    *,
    scores: Floats | None = None,
    rule: DecisionRule = "argmax",
    add_to_carts: Floats | None = None,
    cutoff: int = ADD_TO_CART_CUTOFF,
    runs: Integers | None = None,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
) -> Evaluation:
    """Measure predictions against the adjudicated rating.

    Labels are measured by the levels, rankings by the ratings as given.

    Several models of one kind, each trained on other queries, can be measured together: ``runs`` tells their
    predictions apart. Each ranks its own products of a query, and a query is drawn with all that was said of it.

    Args:
        judged: The pairs, at least one, none of which the model has been trained on.
        probabilities: Shape (pairs, levels), or None for a pure ranker, of which only the ranking is measured.
        scale: Our label scale.
        scores: What ranks, shape (pairs,); None to rank by the expected score of the probabilities.
        rule: From probabilities to a level.
        add_to_carts: How often each pair was added, counted or simulated, shape (pairs,); None leaves ATC out.
        cutoff: k of ATC@k. Of a query with no more products than that it says nothing.
        runs: Which model a prediction is from, shape (pairs,); None for one model, which has each pair once.
        seed: Of the resamples.
        resamples: How many.

    Raises:
        ValueError: Another shape, a row that is no distribution, a score that is NaN, neither probabilities nor
            scores, or no pair at all.
    """
    if not len(judged):
        raise ValueError("there are no pairs to measure")
    draws = Draws(resamples, seed)
    if probabilities is not None:
        probabilities = checked_probabilities(probabilities, len(judged), len(scale.levels))
    runs = np.zeros(len(judged), np.int64) if runs is None else runs
    ranked = _ranking_sums(judged, ranking_scores(probabilities, scores, scale), add_to_carts, cutoff, runs)
    once = _each_pair_once(judged, runs)
    metrics = {
        "data": _data(judged, scale),
        "labels": None if probabilities is None else measure_labels(judged, probabilities, scale, rule, draws),
        "ranking": {name: _mean_over_queries(sums, draws) for name, sums in ranked.items()},
        "humans": measure_raters(once, scale, draws),
        "humans_ranking": _rank_by_raters(once, draws),
        "method": _method(rule, draws, scores is None),
    }
    return Evaluation(metrics, {name: mean(sums) for name, sums in ranked.items()})


def write_evaluation(folder: Path, evaluation: Evaluation, table: pa.Table) -> None:
    """Write ``predictions.parquet``, ``predictions.csv`` and, last, ``metrics.json``, each in one step.

    Args:
        folder: Made where it is not there.
        evaluation: What was measured.
        table: Of :func:`predictions_table`, made with the same judgements, probabilities, scores and rule.

    Raises:
        SettingsError: The folder may not be written.
        TransientError: The disk is full, or does not answer.
    """
    write_measured(folder, evaluation.metrics, table)


def _data(judged: JudgedPairs, scale: LabelScale) -> dict[str, Any]:
    by_level = np.bincount(judged.levels, minlength=len(scale.levels)).tolist()
    return {
        "pairs": len(judged),
        "queries": len(np.unique(judged.query_numbers)),
        "pairs_by_level": dict(zip(scale.levels, by_level, strict=True)),
    }


def _each_pair_once(judged: JudgedPairs, runs: Integers) -> JudgedPairs:
    """People have said it once, whoever else was asked."""
    if not runs.any():
        return judged
    keys = zip(judged.query_numbers.tolist(), judged.product_ids, strict=True)
    first = {key: pair for pair, key in reversed(list(enumerate(keys)))}
    return judged.select(np.array(sorted(first.values()), np.int64))


def _ranking_sums(
    judged: JudgedPairs, scores: Floats, add_to_carts: Floats | None, cutoff: int, runs: Integers
) -> dict[str, Floats]:
    """By measure, sum and number of the values that each query has; shape (queries, 2)."""
    numbers, found = judged.query_numbers, dict[str, Floats]()
    for run in np.unique(runs):
        mine = np.flatnonzero(runs == run)
        asked = list(dict.fromkeys(numbers[mine].tolist()))
        carts = None if add_to_carts is None else add_to_carts[mine]
        for name, values in _ranking_values(judged.select(mine), scores[mine], carts, cutoff).items():
            found.setdefault(name, np.zeros((numbers.max() + 1, 2)))[asked] += sums_of_values(values)
    return found


def _ranking_values(judged: JudgedPairs, scores: Floats, add_to_carts: Floats | None, cutoff: int) -> dict[str, Floats]:
    ranking = rank(judged.queries, judged.product_ids, scores)
    values = {f"ndcg_{gain}@{NDCG_CUTOFF}": ndcg(ranking, judged.ratings, gain=gain) for gain in GAINS}
    if add_to_carts is not None:
        values[f"atc@{cutoff}"] = add_to_cart_share(ranking, add_to_carts, k=cutoff)
    return values


def _rank_by_raters(judged: JudgedPairs, draws: Draws) -> dict[str, dict[str, Any]]:
    """By rater, how well the levels that this one person gave order the products that were given one.

    The adjudicated rating, by which it is measured, was made of the raters' own, so it flatters them.
    """
    found: dict[str, dict[str, Any]] = {}
    for one in () if judged.rater_levels is None else compare_raters(judged.rater_levels, judged.levels):
        if one.reference == ADJUDICATED:
            rated = judged.select(one.indices)
            sums = _ranking_sums(rated, one.rater_levels.astype(float), None, 0, np.zeros(len(rated), np.int64))
            found[one.rater] = {name: _mean_over_queries(each, draws) for name, each in sums.items()}
    return found


def _mean_over_queries(sums: Floats, draws: Draws) -> dict[str, Any]:
    counted = int(np.count_nonzero(sums[:, 1]))
    left_out = {"queries": counted, "queries_left_out": len(sums) - counted}
    return draws.measured(float(mean(sums.sum(axis=0))), sums, mean) | left_out


def _method(rule: DecisionRule, draws: Draws, ranked_by_expected_score: bool) -> dict[str, Any]:
    return {
        "decision_rule": rule,
        "ranked_by": "expected score" if ranked_by_expected_score else "score",
        "interval": f"{CONFIDENCE:.0%}, percentiles of a bootstrap over queries",
        "resamples": draws.resamples,
        "seed": draws.seed,
        "ndcg": "over all judged pairs of a query, discount 1/log2(position + 1)",
        "ndcg_linear": "gain is the rating as given (trec_eval)",
        "ndcg_exponential": "gain is 2^rating - 1 (Burges et al. 2005)",
        "ties": "broken by a hash of query and product id; see the column position",
        "queries_left_out": "queries without a rating above 0 for NDCG; for ATC@k without an add-to-cart, or with no "
        "more than k products",
        "atc": "share of a query's add-to-carts in its first k positions, mean over queries",
        "humans_ranking": "each rater's levels as scores, by the adjudicated rating, which was made of the raters' own",
        "optimistic_bias": "share of the errors that are upward",
        "expected_calibration_error": f"{CALIBRATION_BINS} bins of equal width over the top probability",
    }
