"""From what was read to the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from labelstream.schemas.drift import MOVED, WORTH_A_LOOK
from labelstream.training import report_text as text
from labelstream.training.report_evaluation import EvaluationResult, Metrics, Mistake
from labelstream.training.report_figures import polarization, reliability
from labelstream.training.report_inputs import Ablation, Cost, Source, Tradeoff
from labelstream.training.report_label_figures import MODELS_SHOWN, drift, label_mix
from labelstream.training.report_labels import DRIFT_MINIMUM, LabelHistory
from labelstream.training.report_learning_figures import differences, front
from labelstream.training.report_style import style_sheet
from labelstream.training.report_summary import (
    Line,
    comparison,
    evaluation_lines,
    history_line,
    humans_agree,
    reading,
    tradeoff_line,
)
from labelstream.training.report_template import PAGE


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """What the page is made of; each may be left out.

    Attributes:
        evaluations: In the order in which they are shown, with different names.
        ablation: What each part of the training labels is worth.
        tradeoff: Content against engagement.
        cost: What a million labels take.
        history: The lake's labels by day.
        sources: The files, and the lake.
    """

    evaluations: tuple[EvaluationResult, ...] = ()
    ablation: Ablation | None = None
    tradeoff: Tradeoff | None = None
    cost: Cost | None = None
    history: LabelHistory | None = None
    sources: tuple[Source, ...] = ()


class _Section(NamedTuple):
    id: str
    title: str


class _Evaluation(NamedTuple):
    id: str
    name: str
    metrics: Metrics
    mistakes: tuple[Mistake, ...]
    reliability: Markup | None
    polarization: Markup | None
    humans_elsewhere: bool


def render_report(inputs: ReportInputs) -> str:
    """Write the page.

    Args:
        inputs: The same inputs give the same page.

    Returns:
        HTML that needs nothing from outside and runs no script.
    """
    page = _environment().from_string(PAGE)
    return page.render(
        style=Markup(style_sheet()),  # noqa: S704 - our own
        sections=_sections(inputs),
        simulated_sections=_simulated(inputs),
        in_short=_in_short(inputs),
        evaluations=[_with_figures(place, inputs.evaluations) for place in range(len(inputs.evaluations))],
        comparison_rows=comparison(inputs.evaluations) if inputs.evaluations else [],
        unsaid=[one.name for one in inputs.evaluations if one.metrics.simulated is None and one.metrics.has_atc],
        humans_agree=bool(inputs.evaluations) and humans_agree(inputs.evaluations),
        tradeoff=inputs.tradeoff,
        ablation=inputs.ablation,
        cost=inputs.cost,
        history=inputs.history,
        drawings=_drawings(inputs),
        sources=inputs.sources,
        drift_minimum=DRIFT_MINIMUM,
        models_shown=MODELS_SHOWN,
        worth_a_look=WORTH_A_LOOK,
        moved=MOVED,
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    filters = (text.whole, text.number, text.signed, text.interval, text.percent, text.measure_name, text.rater_name)
    environment.filters |= {one.__name__: one for one in (*filters, text.level_name, reading)}
    environment.filters["features"] = text.features_name
    environment.tests["clear_difference"] = text.is_clear
    return environment


def _finalize(value: Any) -> Any:
    """A NUL or half a character in a query must not break the page."""
    return text.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _sections(inputs: ReportInputs) -> list[_Section]:
    optional = [
        (inputs.evaluations, _Section("judges", "Judges against people")),
        (inputs.tradeoff, _Section("tradeoff", "Content against engagement")),
        (inputs.ablation, _Section("ablation", "Ablation")),
        (inputs.history, _Section("labels", "Labels over time")),
        (inputs.cost, _Section("cost", "Cost")),
    ]
    return [section for found, section in optional if found] + [_Section("sources", "Sources")]


def _simulated(inputs: ReportInputs) -> list[str]:
    named = [one.name for one in inputs.evaluations if one.metrics.simulated]
    if inputs.tradeoff is not None and inputs.tradeoff.simulated:
        named.append("content against engagement")
    if inputs.ablation is not None and inputs.ablation.simulated:
        named.append("ablation")
    return named


def _in_short(inputs: ReportInputs) -> list[Line]:
    lines = list(evaluation_lines(inputs.evaluations))
    if inputs.tradeoff is not None:
        lines.append(tradeoff_line(inputs.tradeoff))
    if inputs.history is not None and inputs.history.days:
        lines.append(history_line(inputs.history))
    return lines


def _with_figures(place: int, evaluations: tuple[EvaluationResult, ...]) -> _Evaluation:
    one = evaluations[place]
    labels, scores, curves, sigmoids = one.metrics.labels, one.expected_scores, None, None
    if labels is not None and scores is not None:
        curves = reliability(labels, name=f"reliability-{place}")
        sigmoids = polarization(scores, name=f"polarization-{place}")
    judges = [other.metrics for other in evaluations if other.metrics.labels is not None]
    elsewhere = any(other.humans == one.metrics.humans for other in judges)
    return _Evaluation(f"judge-{place}", one.name, one.metrics, one.mistakes, curves, sigmoids, elsewhere)


def _drawings(inputs: ReportInputs) -> dict[str, Markup | None]:
    history = inputs.history
    compared = [model for model in history.drift if model.psi][:MODELS_SHOWN] if history is not None else []
    return {
        "tradeoff": front(inputs.tradeoff, name="tradeoff-figure") if inputs.tradeoff is not None else None,
        "ablation": differences(inputs.ablation, name="ablation-figure") if inputs.ablation is not None else None,
        "mix": label_mix(history, name="mix-figure") if history is not None and history.days else None,
        "drift": drift(compared, name="drift-figure") if compared else None,
    }
