"""How the lake's labels are spread over the levels, day by day, and how far each model's mix has moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import numpy as np

from labelstream.schemas.drift import population_stability_index
from labelstream.schemas.scale import LabelScale
from labelstream.streaming.lake import Lake
from labelstream.training.judgments import Integers

# Fewer labels than this say little about shares: by chance alone their PSI can reach what is worth a look.
DRIFT_MINIMUM = 200
DAYS_SHOWN = 366

# Days of UTC, whatever time zone the reader's session has.
_BY_DAY = """
    SELECT epoch_us(judged_at) // 86400000000 AS day, model_version,
           CASE WHEN scale_version = ? AND list_contains(?, level) THEN level END AS of_this_scale, count(*)
    FROM labels GROUP BY ALL ORDER BY ALL
"""


class ModelDrift(NamedTuple):
    """How far the mix of one model's labels has moved from its first.

    Attributes:
        model_version: The model.
        labels: How many it has written.
        reference_day: Its first day with enough labels, or None.
        days: Later days with enough labels.
        psi: Population stability index of each of them against the reference day.
        days_too_few: Days with too few labels to compare.
    """

    model_version: str
    labels: int
    reference_day: date | None
    days: tuple[date, ...]
    psi: tuple[float, ...]
    days_too_few: int


@dataclass(frozen=True, eq=False)
class LabelHistory:
    """Labels of one scale.

    Attributes:
        levels: Worst first.
        days: In UTC, oldest first; days without a label are not among them.
        counts: Labels of each level on each day, shape (days, levels).
        drift: Of each model, the busiest first.
        earlier_labels: Labels of days before those shown.
        other_labels: Labels of other scales, which are left out.
        snapshot: Of the lake.
    """

    levels: tuple[str, ...]
    days: tuple[date, ...]
    counts: Integers
    drift: tuple[ModelDrift, ...]
    earlier_labels: int
    other_labels: int
    snapshot: int


def read_label_history(lake: Lake, scale: LabelScale) -> LabelHistory:
    """Count the lake's labels.

    Args:
        lake: Opened to read.
        scale: Labels of other scales are counted and left out.

    Raises:
        TransientError: The lake does not answer.
    """
    snapshot = lake.snapshot
    by_model: dict[str, dict[date, Integers]] = {}
    other_labels = 0
    for day, model, level, count in lake.query(_BY_DAY, [scale.version, list(scale.levels)]):
        if level is None:
            other_labels += count
            continue
        days = by_model.setdefault(model, {})
        of_day = days.setdefault(_date(day), np.zeros(len(scale.levels), np.int64))
        of_day[scale.levels.index(level)] += count
    totals = _added_up(by_model.values())
    counts = np.array([totals[day] for day in sorted(totals)], np.int64).reshape(-1, len(scale.levels))
    drift = sorted((_drift(model, found) for model, found in by_model.items()), key=lambda one: -one.labels)
    return LabelHistory(
        scale.levels,
        tuple(sorted(totals)[-DAYS_SHOWN:]),
        counts[-DAYS_SHOWN:],
        tuple(drift),
        int(counts[:-DAYS_SHOWN].sum()),
        other_labels,
        snapshot,
    )


def _date(days_since_1970: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days_since_1970)).date()


def _added_up(models: Iterable[dict[date, Integers]]) -> dict[date, Integers]:
    totals: dict[date, Integers] = {}
    for days in models:
        for day, counts in days.items():
            totals[day] = totals.get(day, 0) + counts
    return totals


def _drift(model: str, by_day: dict[date, Integers]) -> ModelDrift:
    enough = [day for day in sorted(by_day) if by_day[day].sum() >= DRIFT_MINIMUM]
    labels = int(sum(counts.sum() for counts in by_day.values()))
    if not enough:
        return ModelDrift(model, labels, None, (), (), len(by_day))
    reference, later = by_day[enough[0]].astype(np.float64), tuple(enough[1:])
    psi = tuple(population_stability_index(reference, by_day[day].astype(np.float64)) for day in later)
    return ModelDrift(model, labels, enough[0], later, psi, len(by_day) - len(enough))
