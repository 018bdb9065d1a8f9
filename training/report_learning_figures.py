"""The figures about learning from labels: content against engagement, and what each part of the labels is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labelstream.training.report_figures import WIDTH
from labelstream.training.report_inputs import Ablation, AblationRow, Outcome, Tradeoff
from labelstream.training.report_svg import BLUE, GREEN, GREY, MUTED, ORANGE, VERMILLION, as_svg, drawing_style
from labelstream.training.report_text import features_name, number, shortened, signed

WIDE = 7.0  # inches; on a narrow screen such a figure scrolls
_LONGEST_NAME = 26
_SIMULATED = " (simulated)"
# Colour, marker, and how far from the middle of its line, so that two intervals do not hide each other.
_FEATURES = (("all", BLUE.light, "o", -0.14), ("without_cross_encoder", ORANGE.light, "D", 0.14))


def front(tradeoff: Tradeoff, *, name: str) -> Markup:
    """Every polarization that was tried, those that no other beats on both, the baseline and the chosen one.

    Args:
        tradeoff: The points.
        name: Of the figure, different for each.
    """
    with drawing_style():
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        axes = figure.subplots()
        best = tradeoff.front_points
        others = [point for place, point in enumerate(tradeoff.points) if place not in tradeoff.front]
        _scatter(axes, others, "o", "polarizations that were tried", color=GREY.light, markersize=4)
        _scatter(axes, best, "o-", "Pareto front", color=BLUE.light)
        _scatter(axes, [tradeoff.baseline], "X", "baseline", color=VERMILLION.light, markersize=9)
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 2.2, "markersize": 11}
        _scatter(axes, [tradeoff.chosen_point], "o", _chosen(tradeoff), color=GREEN.light, **ring)
        title = f"Content against engagement{_SIMULATED if tradeoff.simulated else ''}"
        axes.set(title=title, xlabel="content: NDCG by relevance labels (0 to 1)")
        axes.set(ylabel="engagement: share of add-to-carts, ATC (0 to 1)")
        axes.margins(0.08)
        figure.legend(loc="outside lower center", ncols=2)
        return as_svg(figure, name=name, alternative=_front_text(tradeoff))


def _scatter(axes: Axes, points: Sequence[Outcome], marks: str, label: str, **look: Any) -> None:
    content, engagement = [point.content_ndcg for point in points], [point.atc for point in points]
    axes.plot(content, engagement, marks, label=label, **look)


def _chosen(tradeoff: Tradeoff) -> str:
    point = tradeoff.chosen_point
    return f"chosen: α {point.alpha:g}, β {point.beta:g}"


def _front_text(tradeoff: Tradeoff) -> str:
    return (
        f"Scatter plot of content NDCG against ATC for {len(tradeoff.points)} polarizations, "
        f"{len(tradeoff.front)} of them on the Pareto front. Baseline: {_outcome(tradeoff.baseline)}. "
        f"{_chosen(tradeoff).capitalize()}, {_outcome(tradeoff.chosen_point)}."
    )


def _outcome(outcome: Outcome) -> str:
    return f"content NDCG {number(outcome.content_ndcg)}, ATC {number(outcome.atc)}"


def differences(ablation: Ablation, *, name: str) -> Markup:
    """The differences of an ablation to its baseline, with their intervals, content beside engagement.

    Args:
        ablation: The rows.
        name: Of the figure, different for each.
    """
    names = list(dict.fromkeys(row.name for row in ablation.rows))
    with drawing_style():
        figure = Figure(figsize=(WIDE, 1.6 + 0.42 * len(names)), layout="constrained")
        content, engagement = figure.subplots(1, 2, sharey=True)
        simulated = _SIMULATED if ablation.simulated else ""
        _intervals(content, ablation.rows, names, "content_ndcg_delta")
        _intervals(engagement, ablation.rows, names, "atc_delta")
        content.set(title=f"Content{simulated}", xlabel="difference in NDCG (0 to 1 scale)")
        engagement.set(title=f"Engagement{simulated}", xlabel="difference in ATC (0 to 1 scale)")
        content.set_yticks(range(len(names)), [shortened(one, _LONGEST_NAME) for one in names])
        content.set_ylim(len(names) - 0.5, -0.5)  # the first row at the top
        handles, labels = content.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        return as_svg(figure, name=name, alternative=_differences_text(ablation))


def _intervals(
    axes: Axes, rows: list[AblationRow], names: list[str], key: Literal["content_ndcg_delta", "atc_delta"]
) -> None:
    axes.axvline(0, color=MUTED.light, linewidth=1)
    for features, colour, marker, offset in _FEATURES:
        found = [
            (getattr(row, key), names.index(row.name) + offset)
            for row in rows
            if row.features == features and getattr(row, key).value is not None
        ]
        if not found:
            continue
        values, lines = [one.value for one, _ in found], [y for _, y in found]
        axes.plot(values, lines, marker, color=colour, label=features_name(features))
        bounded = [(one, y) for one, y in found if one.low is not None and one.high is not None]
        lows, highs = [one.low for one, _ in bounded], [one.high for one, _ in bounded]
        axes.hlines([y for _, y in bounded], lows, highs, color=colour, linewidth=1.4)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5)


def _differences_text(ablation: Ablation) -> str:
    rows = "; ".join(
        f"{row.name}, {features_name(row.features)}: content {signed(row.content_ndcg_delta.value)}, "
        f"engagement {signed(row.atc_delta.value)}"
        for row in ablation.rows
    )
    return f"Differences to {ablation.baseline}, with intervals as in the table. {rows}."
