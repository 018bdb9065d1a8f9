"""A new ranker from the tables, and the step that makes it champion only if it is no worse."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from labelstream.schemas.errors import ModelUnusable, SettingsError
from labelstream.schemas.scale import Floats
from labelstream.schemas.settings import Settings
from labelstream.streaming.lake import Lake
from labelstream.training.code_version import code_version
from labelstream.training.features import FeatureTable
from labelstream.training.gate import CONTENT, METRICS, Check, Evidence, Verdict, judge
from labelstream.training.human_content import HumanJudgements
from labelstream.training.judgments import Integers
from labelstream.training.manifest import RANKER, DataSnapshot, Origin
from labelstream.training.ranker import Ranker
from labelstream.training.ranker_fit import fit_ranker
from labelstream.training.ranking_task import RankingTask, read_task, split_queries
from labelstream.training.registry import Entry, Registry

KIND = RANKER

_SECTIONS = ("retrain", "gate", "engagement", "ranker")

logger = logging.getLogger(__name__)

Train = Callable[[FeatureTable, Floats, Sequence[str]], Ranker]
Measure = Callable[[Ranker], dict[str, Floats]]


class Retrained(NamedTuple):
    """What came of a run.

    Attributes:
        version: Of the challenger; None of a dry run.
        verdict: The gate's.
        champion: Who is champion now; None where nobody is.
        promoted: Whether it is the challenger.
        metrics: Means of both measures, of challenger and former champion.
    """

    version: str | None
    verdict: Verdict
    champion: Entry | None
    promoted: bool
    metrics: dict[str, Any]


def retrain(
    lake: Lake,
    registry: Registry,
    settings: Settings,
    *,
    humans: HumanJudgements | None = None,
    train: Train | None = None,
    snapshot: int | None = None,
    dry_run: bool = False,
) -> Retrained:
    """Train a challenger, measure it beside the champion on the same held-out queries, and promote it if it passes.

    It may run twice at once, be killed at any moment, and be repeated: the same snapshot and settings give the same
    version, and whoever was overtaken by another promotion is refused by the registry. Where the champion cannot be
    measured the gate refuses, and the challenger is kept for a person to decide. So it does with a version that was
    rolled back from.

    Args:
        lake: Open, read-only or not.
        registry: Where versions and champions are kept.
        settings: Scale, and the sections retrain, gate, engagement and ranker.
        humans: Measure content by these judgements; None for the labeller's own levels of the held-out queries.
        train: Trains a ranker on features, labels and queries; None for XGBoost with the settings.
        snapshot: Of the lake; None for the newest.
        dry_run: Change nothing.

    Raises:
        SettingsError: The snapshot cannot be trained on.
        StaleChampion: Another run has promoted its challenger meanwhile.
        TransientError: The lake or the registry does not answer.
    """
    chosen, scale = settings.retrain, settings.scale
    task = read_task(lake, scale, settings.engagement, window_days=chosen.window_days, snapshot=snapshot)
    training, held_out = _split(task, chosen.held_out, humans)
    labels = task.labels(chosen.ranking_label)
    challenger = (train or _trainer(settings))(
        task.features.select(training), labels[training], [task.queries[i] for i in training]
    )
    measure = _measure_of(lake, task, held_out, humans, cutoff=settings.gate.engagement_cutoff)
    champion = registry.champion(KIND)
    found = measure(challenger)
    known = _known_of(registry, champion, measure, scale.levels)
    mix = np.bincount(task.levels[training], minlength=len(scale.levels)).astype(float)
    verdict = judge(
        Evidence(found, known.measures, len(training), mix, known.mix, known.unusable, known.other_scale),
        settings.gate,
    )
    metrics = {
        "challenger": _means(found),
        "champion": known.measures and _means(known.measures),
        "levels": list(scale.levels),
        "labels": mix.tolist(),
        "content_judged_by": "labeller" if humans is None else "people",
    }
    if dry_run:
        return Retrained(None, verdict, champion, False, metrics)
    version = _add(registry, challenger, _origin(lake, task, training, settings, humans), metrics | verdict.as_dict())
    if version in registry.history(KIND).rolled_back:
        verdict = Verdict(False, [*verdict.checks, _unwanted(version)])
    promoted = verdict.passed and (champion is None or champion.version != version)
    if promoted:
        expected = None if champion is None else champion.version
        champion = registry.promote(KIND, version, expected=expected, reason=verdict.summary)
    registry.prune(KIND, keep=chosen.keep)  # also of refused ones, or a gate that refuses every night fills the disk
    return Retrained(version, verdict, champion, promoted, metrics)


def _split(task: RankingTask, share: float, humans: HumanJudgements | None) -> tuple[Integers, Integers]:
    training, held_out = split_queries(task.queries, share)
    if humans is None:
        return training, held_out
    kept = humans.without(task.queries, training)
    if not len(kept):
        raise SettingsError("people have judged every query of the lake, so none is left to train on; judge fewer")
    return kept, np.setdiff1d(np.arange(len(task)), kept)  # judged queries can measure engagement too


def _trainer(settings: Settings) -> Train:
    label = str(settings.retrain.ranking_label.description)

    def train(features: FeatureTable, labels: Floats, queries: Sequence[str]) -> Ranker:
        return fit_ranker(features, labels, queries, settings.ranker, label=label)

    return train


def _measure_of(
    lake: Lake, task: RankingTask, held_out: Integers, humans: HumanJudgements | None, *, cutoff: int
) -> Measure:
    """How the gate measures a ranker; challenger and champion see the same pairs, each the features that it knows."""
    seen = task.features.select(held_out)
    judged = None if humans is None else humans.features(lake, task)

    def measure(ranker: Ranker) -> dict[str, Floats]:
        scores = ranker.score(seen.only(ranker.card.features)).astype(float)
        found = task.measure(held_out, scores, cutoff=cutoff)
        if humans is not None and judged is not None:
            found[CONTENT] = humans.measure(ranker, judged)
        return found

    return measure


class _Known(NamedTuple):
    """What is known of the champion, or why it is not; see :class:`Evidence`."""

    measures: dict[str, Floats] | None = None
    mix: Floats | None = None
    other_scale: str = ""
    unusable: str = ""


def _known_of(registry: Registry, champion: Entry | None, measure: Measure, levels: tuple[str, ...]) -> _Known:
    if champion is None:
        return _Known()
    try:
        told = registry.manifest(KIND, champion.version).metrics
        return _Known(measure(Ranker.load(champion.folder)), *_mix_of(told, levels))
    except (ModelUnusable, SettingsError) as error:  # damaged, or it wants features that we do not have
        logger.warning("the champion %s cannot be measured: %s", champion.version, error)
        return _Known(unusable=f"{champion.version}: {error}")


def _mix_of(metrics: Mapping[str, Any], levels: tuple[str, ...]) -> tuple[Floats | None, str]:
    """The labels that a champion was trained on, by which a drift of the labeller shows; or its other scale."""
    mix, theirs = metrics.get("labels"), metrics.get("levels")
    if not isinstance(mix, list):
        return None, ""
    if len(mix) == len(levels) and theirs in (None, list(levels)):  # older manifests lack the names
        return np.array(mix, dtype=float), ""
    return None, str(theirs or f"of {len(mix)} levels")


def _means(values: dict[str, Floats]) -> dict[str, float | None]:
    def mean(of: Floats) -> float | None:
        return None if np.isnan(of).all() else float(np.nanmean(of))

    return {name: mean(values[name]) for name in METRICS}


def _add(registry: Registry, ranker: Ranker, origin: Origin, metrics: dict[str, Any]) -> str:
    with registry.stage(KIND) as folder:
        ranker.save(folder)
        return registry.add(KIND, folder, origin=origin, metrics=metrics)


def _unwanted(version: str) -> Check:
    """It would pass as it did before; whoever rolled back knew more than the gate does."""
    detail = f"{version} was champion, and somebody has rolled back; `labelstream models promote {version}` undoes that"
    return Check("not rolled back from", False, 0.0, 1.0, detail)


def _origin(
    lake: Lake, task: RankingTask, training: Integers, settings: Settings, humans: HumanJudgements | None
) -> Origin:
    rows = {"pairs": len(task), "training_pairs": len(training)}
    sources: dict[str, str] = {}
    if humans is not None:
        rows["judged_pairs"], sources = len(humans.judged), dict(humans.sources)
    return Origin(
        data=DataSnapshot(lake=lake.identity, snapshot=task.snapshot, rows=rows, sources=sources),
        code=code_version(settings.registry.commit),
        settings=settings.model_dump(mode="json", include=set(_SECTIONS)),
        seed=settings.ranker.seed,
        parents=task.judges,
    )
