"""The figures about the labels over time: their mix day by day, and how far it has moved."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DayLocator, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from labelstream.schemas.drift import MOVED, WORTH_A_LOOK
from labelstream.training.report_figures import WIDTH
from labelstream.training.report_labels import LabelHistory, ModelDrift
from labelstream.training.report_svg import (
    BLUE,
    GREEN,
    GREY,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    SURFACE,
    VERMILLION,
    as_svg,
    drawing_style,
)
from labelstream.training.report_text import level_name, number, percent, shortened

MODELS_SHOWN = 5
_LONGEST_NAME = 40
_A_WEEK = timedelta(days=7)
# From the worst level to the best one: warm, then grey, then blue.
_LEVELS = {
    2: (VERMILLION, BLUE),
    3: (VERMILLION, GREY, BLUE),
    4: (VERMILLION, ORANGE, SKY, BLUE),
    5: (VERMILLION, ORANGE, GREY, SKY, BLUE),
}
_LINES = ((BLUE, "o-"), (VERMILLION, "s--"), (GREEN, "^-."), (PURPLE, "D:"), (ORANGE, "v-"))


def label_mix(history: LabelHistory, *, name: str) -> Markup:
    """The share of each level day by day, above how many labels that is.

    Args:
        history: At least one day.
        name: Of the figure, different for each.
    """
    totals = history.counts.sum(axis=1)
    shares = history.counts / totals[:, None]
    with drawing_style():
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        bottom = 0.0 * totals
        look = {"width": 0.9, "edgecolor": SURFACE.light, "linewidth": 0.4}
        for place, colour in enumerate(_LEVELS[len(history.levels)]):
            label = level_name(history.levels[place])
            above.bar(history.days, shares[:, place], bottom=bottom, color=colour.light, label=label, **look)
            bottom = bottom + shares[:, place]
        above.set(title="Mix of labels by day", ylabel="share of the day's labels", ylim=(0, 1))
        above.yaxis.set_major_formatter(PercentFormatter(1.0))
        below.bar(history.days, totals, color=GREY.light, **look)
        below.set(xlabel="day (UTC)", ylabel="labels")
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        _mark_days(below, history.days)
        figure.legend(loc="outside lower center", ncols=len(history.levels), title="level, worst first")
        return as_svg(figure, name=name, alternative=_mix_text(history))


def _mark_days(axes: Axes, days: Collection[date]) -> None:
    first, last = min(days), max(days)
    # Of a few days the automatic one would mark the hours.
    locator = DayLocator() if last - first < _A_WEEK else AutoDateLocator(minticks=2, maxticks=8)
    axes.set_xlim(date2num(first) - 0.7, date2num(last) + 0.7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.grid(visible=False, axis="x")


def _mix_text(history: LabelHistory) -> str:
    def described(place: int) -> str:
        counts = history.counts[place]
        each = zip(history.levels, (counts / counts.sum()).tolist(), strict=True)
        return ", ".join(f"{level_name(level)} {percent(share)}" for level, share in each)

    return (
        f"Stacked bars of the levels' shares on {len(history.days)} days. First day, {history.days[0]}: "
        f"{described(0)}. Last day, {history.days[-1]}: {described(-1)}. {int(history.counts.sum())} labels in all."
    )


def drift(models: list[ModelDrift], *, name: str) -> Markup:
    """The population stability index of each model's days against its first.

    Args:
        models: Those with at least one day to compare, at most ``MODELS_SHOWN``.
        name: Of the figure, different for each.
    """
    with drawing_style():
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.subplots()
        for model, (colour, marks) in zip(models, _LINES, strict=False):
            days, label = np.array(model.days, "datetime64[D]"), shortened(model.model_version, _LONGEST_NAME)
            axes.plot(days, model.psi, marks, color=colour.light, label=label, markersize=4)
        for threshold, meaning in ((WORTH_A_LOOK, "worth a look"), (MOVED, "moved")):
            axes.axhline(threshold, color=MUTED.light, linewidth=1, linestyle=(0, (6, 3)))
            axes.annotate(
                f"{meaning}: above {threshold:g}", (1, threshold), (0, 2), ha="right",
                xycoords=axes.get_yaxis_transform(), textcoords="offset points", color=MUTED.light,
            )  # fmt: skip
        highest = max(max(model.psi) for model in models)
        axes.set(title="Drift of the labels' mix", xlabel="day (UTC)", ylim=(0, max(MOVED * 1.3, highest * 1.1)))
        axes.set(ylabel="PSI against the first day (no unit)")
        _mark_days(axes, {day for model in models for day in model.days})
        figure.legend(loc="outside lower center", ncols=1)
        return as_svg(figure, name=name, alternative=_drift_text(models))


def _drift_text(models: list[ModelDrift]) -> str:
    said = "; ".join(
        f"{model.model_version}: highest {number(max(model.psi))}, newest {number(model.psi[-1])}" for model in models
    )
    return f"Population stability index by day, for each model against its first day. {said}."
