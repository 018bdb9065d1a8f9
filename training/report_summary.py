"""What the report says in short: a sentence for each thing that was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from labelstream.schemas.drift import MOVED, WORTH_A_LOOK
from labelstream.training.report_evaluation import EvaluationResult, RaterAgreement
from labelstream.training.report_inputs import Measure, Tradeoff
from labelstream.training.report_labels import LabelHistory
from labelstream.training.report_text import NOT_DEFINED, measure_name, number, signed, with_interval

_AGREEMENT = {
    "quadratic_kappa": "higher",
    "kappa": "higher",
    "weighted_f1": "higher",
    "accuracy": "higher",
    "optimistic_bias": "near 0.5",
}
_OVER_TIME = "Labels over time"
_PROBABILITIES = {"expected_calibration_error": "lower", "negative_log_likelihood": "lower", "brier": "lower"}


class ComparisonRow(NamedTuple):
    """One measure of all evaluations.

    Attributes:
        name: Of the measure.
        better: Which way is better.
        measures: One for each evaluation, None where it was not measured.
        humans: From the lowest to the highest of the raters, or nothing.
    """

    name: str
    better: str
    measures: tuple[Measure | None, ...]
    humans: str


def comparison(evaluations: tuple[EvaluationResult, ...]) -> list[ComparisonRow]:
    """Put the evaluations side by side."""
    agreed = humans_agree(evaluations)
    raters = evaluations[0].metrics.among_raters if agreed else []
    rankers = list(evaluations[0].metrics.humans_ranking.values()) if agreed else []
    labels = [
        ComparisonRow(
            name, better, tuple(getattr(one.metrics.labels, name, None) for one in evaluations), among(raters, name)
        )
        for name, better in (_AGREEMENT | _PROBABILITIES).items()
    ]
    names = dict.fromkeys(name for one in evaluations for name in one.metrics.ranking)
    ranking = [
        ComparisonRow(
            name,
            "higher",
            tuple(one.metrics.ranking.get(name) for one in evaluations),
            _range([rater[name] for rater in rankers if name in rater]),
        )
        for name in names
    ]
    return [row for row in (*labels, *ranking) if any(row.measures) or row.humans]


def humans_agree(evaluations: tuple[EvaluationResult, ...]) -> bool:
    """Whether all evaluations have the same raters, who have said the same."""
    first = evaluations[0].metrics.humans
    return bool(first) and all(one.metrics.humans == first for one in evaluations)


def among(raters: list[RaterAgreement], name: str) -> str:
    """From the lowest to the highest pair of raters; nothing where the measure is not one of levels."""
    return _range([getattr(one, name) for one in raters]) if name in _AGREEMENT else ""


def _range(measures: list[Measure]) -> str:
    if not measures:
        return ""
    values = [one.value for one in measures if one.value is not None]
    if not values:
        return NOT_DEFINED
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


class Line(NamedTuple):
    """What is said, and of what."""

    what: str
    said: str


def evaluation_lines(evaluations: tuple[EvaluationResult, ...]) -> Iterator[Line]:
    """What each judge or ranker reaches."""
    for one in evaluations:
        data, labels = one.metrics.data, one.metrics.labels
        where = f"on {data.pairs:,} pairs of {data.queries:,} queries"
        if labels is None:
            best = [f"{measure_name(name)} {with_interval(value)}" for name, value in one.metrics.ranking.items()]
            yield Line(one.name, f"{'; '.join(best)}, {where}.")
            continue
        raters = among(one.metrics.among_raters, "quadratic_kappa")
        beside = f"; raters among themselves {raters}" if raters else ""
        error = number(labels.expected_calibration_error.value)
        kappa = with_interval(labels.quadratic_kappa)
        yield Line(one.name, f"quadratic κ {kappa} {where}{beside}; calibration error {error}.")


def tradeoff_line(tradeoff: Tradeoff) -> Line:
    """What was chosen and what it gives."""
    chosen, baseline = tradeoff.chosen_point, tradeoff.baseline
    return Line(
        f"Content against engagement{', simulated' if tradeoff.simulated else ''}",
        f"α {chosen.alpha:g} and β {chosen.beta:g} were chosen of "
        f"{len(tradeoff.points):,} polarizations: content NDCG {number(chosen.content_ndcg)} "
        f"({signed(chosen.content_ndcg - baseline.content_ndcg)} to the baseline), ATC {number(chosen.atc)} "
        f"({signed(chosen.atc - baseline.atc)}).",
    )


def history_line(history: LabelHistory) -> Line:
    """How many labels there are and whether their mix has moved."""
    compared = [model for model in history.drift if model.psi]
    said = f"{int(history.counts.sum()):,} labels on {len(history.days):,} days"
    if not compared:
        return Line(_OVER_TIME, f"{said}; too few on later days to see a drift.")
    worst = max(compared, key=lambda model: model.psi[-1])
    return Line(_OVER_TIME, f"{said}; newest drift at most {number(worst.psi[-1])} (PSI), {reading(worst.psi[-1])}.")


def reading(psi: float) -> str:
    """What a population stability index is usually taken to say."""
    if psi > MOVED:
        return "moved"
    return "worth a look" if psi > WORTH_A_LOOK else "stable"
