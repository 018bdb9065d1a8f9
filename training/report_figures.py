"""The figures about one labeller: how far its probabilities can be trusted, and what polarization makes of them."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from labelstream.schemas.polarization import PRESETS, polarize
from labelstream.schemas.scale import Floats
from labelstream.training.report_evaluation import LabelMeasures
from labelstream.training.report_svg import (
    BLUE,
    GREEN,
    GREY,
    MUTED,
    PURPLE,
    SURFACE,
    VERMILLION,
    as_svg,
    drawing_style,
)
from labelstream.training.report_text import number, percent, with_interval

WIDTH = 5.2  # inches; on a narrow telephone its text is then still as high as small print
_SCORE_BINS = 40
# Colours and dashes, so that the curves can be told apart in black and white too.
_CURVES = ((GREEN.light, "-."), (BLUE.light, "-"), (VERMILLION.light, "--"), (PURPLE.light, (0, (5, 1, 1, 1, 1, 1))))


def reliability(labels: LabelMeasures, *, name: str) -> Markup:
    """Confidence against accuracy, above how many pairs are in each bin.

    Args:
        labels: Measures of a labeller.
        name: Of the figure, different for each.
    """
    bins = [one for one in labels.reliability if one.pairs]
    confidence, accuracy = ([getattr(one, key) for one in bins] for key in ("confidence", "accuracy"))
    error = with_interval(labels.expected_calibration_error)
    with drawing_style():
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], ":", color=MUTED.light, label="calibrated: accuracy = confidence")
        above.plot(confidence, accuracy, "o-", color=BLUE.light, label="this judge")
        above.vlines(confidence, confidence, accuracy, color=VERMILLION.light, linewidth=1, label="gap")
        above.set(title=f"Reliability: ECE {error}", ylabel="accuracy (share of pairs)", xlim=(0, 1), ylim=(0, 1.02))
        above.legend(loc="upper left")
        lows, widths = [one.low for one in bins], [one.high - one.low for one in bins]
        below.bar(lows, [one.pairs for one in bins], widths, align="edge", color=GREY.light, edgecolor=SURFACE.light)
        below.set(xlabel="confidence: probability of the most probable level (0 to 1)", ylabel="pairs")
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        said = "; ".join(
            f"confidence {number(one.confidence, 2)}, accuracy {number(one.accuracy, 2)}, {one.pairs} pairs"
            for one in bins
        )
        text = f"Reliability curve, expected calibration error {error}. By bin: {said}."
        return as_svg(figure, name=name, alternative=text)


def polarization(expected_scores: Floats, *, name: str) -> Markup:
    """The curve of every preset over the histogram of expected scores.

    Args:
        expected_scores: Of a labeller, shape (pairs,), in [0, 1].
        name: Of the figure, different for each.
    """
    scores = np.linspace(0.0, 1.0, 201)
    counts, borders = np.histogram(expected_scores, _SCORE_BINS, (0.0, 1.0))
    with drawing_style():
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        pairs = figure.subplots()
        bars = pairs.bar(borders[:-1], counts / len(expected_scores), 1 / _SCORE_BINS, align="edge", alpha=0.7)
        for bar in bars:
            bar.set(color=GREY.light, edgecolor=SURFACE.light)
        pairs.set(title="Polarization over the expected scores", xlabel="expected score (0 worst, 1 best)")
        pairs.set(ylabel="share of pairs (bars)", xlim=(0, 1))
        pairs.yaxis.set_major_formatter(PercentFormatter(1.0))
        pairs.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        pairs.grid(visible=False, axis="y")
        curves = pairs.twinx()
        curves.plot(scores, scores, ":", color=MUTED.light, label="none: kept as it is")
        for (preset, (alpha, beta)), (colour, dashes) in zip(PRESETS.items(), cycle(_CURVES), strict=False):
            label = f"{preset}: α {alpha:g}, β {beta:g}"
            curves.plot(scores, polarize(scores, alpha, beta), linestyle=dashes, color=colour, label=label)
        curves.set(ylabel="polarized score σ (curves, 0 to 1)", ylim=(0, 1.02))
        curves.grid(visible=False)
        curves.spines["right"].set_visible(True)
        figure.legend(loc="outside lower center", ncols=2)
        return as_svg(figure, name=name, alternative=_polarization_text(expected_scores))


def _polarization_text(expected_scores: Floats) -> str:
    quartiles = ", ".join(number(float(value), 2) for value in np.quantile(expected_scores, (0.25, 0.5, 0.75)))
    above = "; ".join(
        f"{preset} (α {alpha:g}, β {beta:g}): {percent(float((expected_scores > beta).mean()))}"
        for preset, (alpha, beta) in PRESETS.items()
    )
    return (
        f"Histogram of the expected scores of {len(expected_scores)} pairs, quartiles {quartiles}, under the sigmoid "
        f"curves of the polarization presets. Share of the pairs above the centre of {above}."
    )
