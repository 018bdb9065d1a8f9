"""The promotion gate: a challenger replaces the champion only if it is shown to be no worse.

"No worse" is a non-inferiority test: the lower confidence bound of the mean difference over the same queries must not
lie below minus a margin. It is not enough that no difference was found, because few queries find none either; so a
small set of held-out queries makes the gate stricter, not laxer. All checks must pass, hence each may use the whole
error rate (an intersection-union test, Berger 1982).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from labelstream.schemas.drift import population_stability_index
from labelstream.schemas.learning_settings import GateSettings
from labelstream.schemas.scale import Floats
from labelstream.training.intervals import paired_difference

CONTENT, ENGAGEMENT = "content NDCG@10", "engagement ATC"
METRICS = (CONTENT, ENGAGEMENT)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the gate judges by.

    Attributes:
        challenger: Of both ``METRICS``, one value a held-out query, NaN where the truth defines none; shape (queries,).
        champion: The same queries in the same order; None where there is no champion yet.
        labelled_pairs: How many the challenger was trained on.
        labels: Labels of each level that it was trained on; shape (levels,).
        calibration: Labels of each level in the calibration set; None where the labeller has none.
        unusable: Why the champion that there is could not be measured; empty where it could, or where there is none.
        other_scale: What the champion's labels are of, where that is another scale, so that no drift can be told.
    """

    challenger: Mapping[str, Floats]
    champion: Mapping[str, Floats] | None
    labelled_pairs: int
    labels: Floats
    calibration: Floats | None
    unusable: str = ""
    other_scale: str = ""


class Check(NamedTuple):
    """One thing that is asked of a challenger.

    Attributes:
        name: What.
        passed: Whether it is met.
        observed: What was found; None where it cannot be computed.
        limit: What it is compared with.
        detail: The comparison in words.
    """

    name: str
    passed: bool
    observed: float | None
    limit: float
    detail: str


class Verdict(NamedTuple):
    """What the gate says.

    Attributes:
        passed: Whether every check is.
        checks: All of them, also when one has failed.
    """

    passed: bool
    checks: list[Check]

    @property
    def summary(self) -> str:
        """One line: the failed checks, or all of them where none has."""
        told = [check for check in self.checks if self.passed or not check.passed]
        return "; ".join(f"{check.name}: {check.detail}" for check in told)

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON, for a manifest or a report."""
        return {"passed": self.passed, "checks": [check._asdict() for check in self.checks]}


def judge(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Decide whether a challenger may become champion.

    Raises:
        ValueError: The evidence does not fit together: a metric is missing or infinite, or the two were not measured
            on the same queries.
    """
    _require_aligned(evidence)
    checks = list(_checks(evidence, settings))
    return Verdict(all(check.passed for check in checks), checks)


def _checks(evidence: Evidence, settings: GateSettings) -> Iterator[Check]:
    yield _enough("labelled pairs", evidence.labelled_pairs, settings.minimum_pairs)
    for metric in METRICS:
        values = evidence.challenger[metric]
        check = _enough(f"queries with {metric}", int((~np.isnan(values)).sum()), settings.minimum_queries)
        yield check if metric == CONTENT else check._replace(detail=f"{check.detail}; {_what_counts(settings)}")
    yield _labels_have_not_drifted(evidence, settings.maximum_drift)
    for metric in METRICS:
        # Also where there is a champion: many steps down, each within the margin, are a long way down.
        yield _good_enough(metric, evidence.challenger[metric], _minimum(settings, metric))
    if evidence.unusable:
        yield _can_be_compared(evidence.unusable)
    if evidence.champion is not None:
        for metric in METRICS:
            yield _no_worse(metric, evidence.challenger[metric], evidence.champion[metric], settings)


def _what_counts(settings: GateSettings) -> str:
    return f"those with adds to cart and more than {settings.engagement_cutoff} labelled products"


def _enough(name: str, found: int, wanted: int) -> Check:
    return Check(f"enough {name}", found >= wanted, found, wanted, f"{found} of at least {wanted}")


def _labels_have_not_drifted(evidence: Evidence, limit: float) -> Check:
    name = "label drift"
    if evidence.other_scale:
        told = f"the champion's labels are of another scale, {evidence.other_scale}"
        return Check(name, False, None, limit, f"{told}. `labelstream models promote` with this version decides")
    if evidence.calibration is None:
        return Check(name, True, None, limit, "not checked: there is no calibration set")
    moved = population_stability_index(evidence.calibration, evidence.labels)
    return Check(name, moved <= limit, moved, limit, f"PSI {moved:.3f}, at most {limit:g}")


def _good_enough(metric: str, values: Floats, minimum: float) -> Check:
    name, known = f"{metric} is high enough", values[~np.isnan(values)]
    if not known.size:
        return Check(name, False, None, minimum, "no query defines it")
    mean = float(known.mean())
    return Check(name, mean >= minimum, mean, minimum, f"mean {mean:.4f}, at least {minimum:g}")


def _can_be_compared(why_not: str) -> Check:
    """Without a comparison nobody can say "no worse", so a person has to decide."""
    remedy = "`labelstream models rollback`, or `models promote` with this challenger's version, decides without it"
    return Check("the champion can be measured", False, 0.0, 1.0, f"{why_not}. {remedy}")


def _no_worse(metric: str, challenger: Floats, champion: Floats, settings: GateSettings) -> Check:
    name, margin = f"{metric} is no worse", _margin(settings, metric)
    if np.isnan(challenger).all():
        return Check(name, False, None, -margin, "no query defines it")
    found = paired_difference(
        champion,
        challenger,
        resamples=settings.resamples,
        seed=settings.seed,
        confidence=2 * settings.confidence - 1,  # both tails of this interval are as large as our one
    )
    if math.isnan(found.low):
        return Check(name, False, None, -margin, "one query says nothing of others")
    detail = f"difference {found.difference:+.4f}, at least {found.low:+.4f} at {settings.confidence:.0%} confidence"
    return Check(name, found.low >= -margin, found.low, -margin, f"{detail}; {-margin:+g} is allowed")


def _margin(settings: GateSettings, metric: str) -> float:
    """How much of a metric a challenger may lose."""
    return settings.content_margin if metric == CONTENT else settings.engagement_margin


def _minimum(settings: GateSettings, metric: str) -> float:
    """The mean of a metric that every challenger must reach."""
    return settings.content_minimum if metric == CONTENT else settings.engagement_minimum


def _require_aligned(evidence: Evidence) -> None:
    for metric in METRICS:
        for system, values in (("challenger", evidence.challenger), ("champion", evidence.champion)):
            if values is not None and metric not in values:
                raise ValueError(f"{system} has no {metric}")
            if values is not None and np.isinf(values[metric]).any():
                raise ValueError(f"{metric} of the {system} is infinite")
        if evidence.champion is not None:
            _require_same_queries(metric, evidence.challenger[metric], evidence.champion[metric])


def _require_same_queries(metric: str, challenger: Floats, champion: Floats) -> None:
    if challenger.shape != champion.shape:
        raise ValueError(f"{metric}: {len(challenger)} queries of the challenger, {len(champion)} of the champion")
    # Whether a query defines a metric lies in its judgements. A system cannot get rid of a query by having no value.
    if (np.isnan(challenger) != np.isnan(champion)).any():
        raise ValueError(f"{metric}: some queries have a value of the challenger or of the champion only")
