"""How the report writes numbers and names."""

from __future__ import annotations

import re

from labelstream.training.report_inputs import Measure

NOT_DEFINED = "n/a"
MINUS = "−"

_MEASURES = {
    "kappa": "Cohen’s κ",
    "quadratic_kappa": "quadratic κ",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
    "optimistic_bias": "optimistic bias",
    "expected_calibration_error": "ECE",
    "negative_log_likelihood": "negative log-likelihood",
    "brier": "Brier score",
}
# Control characters but tab and line feed, halves of UTF-16 pairs, and what XML forbids.
_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_RANKING = re.compile(r"^(?P<measure>[a-z]+)(?:_(?P<gain>[a-z]+))?@(?P<cutoff>\d+)$")


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits after the point; ``n/a`` where it is not defined."""
    if value is None:
        return NOT_DEFINED
    written = f"{value:,.{digits}f}"
    return f"{0.0:.{digits}f}" if float(written.replace(",", "")) == 0 else written.replace("-", MINUS)


def whole(value: int) -> str:
    """A whole number, in groups of three digits."""
    return f"{value:,}"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference: always with its sign, but for 0."""
    written = number(value, digits)
    return f"+{written}" if value is not None and value > 0 and re.search(r"[1-9]", written) else written


def interval(measure: Measure, digits: int = 3) -> str:
    """The bounds, or nothing where there are none."""
    if measure.low is None or measure.high is None:
        return ""
    return f"{number(measure.low, digits)} to {number(measure.high, digits)}"


def with_interval(measure: Measure, digits: int = 3) -> str:
    """A value and its bounds in one line."""
    bounds = interval(measure, digits)
    return f"{number(measure.value, digits)} ({bounds})" if bounds else number(measure.value, digits)


def percent(share: float | None) -> str:
    """A share of 1 in whole percent."""
    return NOT_DEFINED if share is None else f"{share:.0%}"


def is_clear(measure: Measure) -> bool:
    """Whether the interval of a difference leaves 0 out."""
    return measure.low is not None and measure.high is not None and (measure.low > 0 or measure.high < 0)


def measure_name(name: str) -> str:
    """The name of a measure as people write it: ``ndcg_linear@10`` is NDCG@10, linear gain."""
    found = _RANKING.match(name)
    if found is None:
        return _MEASURES.get(name, name.replace("_", " "))
    gain = f", {found['gain']} gain" if found["gain"] else ""
    return f"{found['measure'].upper()}@{found['cutoff']}{gain}"


def rater_name(name: str) -> str:
    """``rater_1`` is rater 1."""
    return name.replace("_", " ")


def features_name(features: str) -> str:
    """The features of an ablation's row."""
    return "without cross-encoder" if features == "without_cross_encoder" else f"{features} features"


def level_name(name: str) -> str:
    """A level of the scale, without the underscores."""
    return name.replace("_", " ")


def clean(text: str) -> str:
    """Text that can stand in a UTF-8 page: what cannot be written, and control characters, become U+FFFD."""
    return _UNWRITABLE.sub("\ufffd", text)


def shortened(text: str, length: int) -> str:
    """One line of at most so many characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
