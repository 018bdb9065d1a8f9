"""A new ranker from the tables, and the step that makes it champion only if it is no worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version as package_version
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.ranking_label import RANKING_LABELS, RankingLabel
from labelstream.schemas.scale import Floats, LabelScale
from labelstream.streaming.lake import Lake
from labelstream.training.engagement import EngagementSettings
from labelstream.training.features import FeatureTable
from labelstream.training.gate import METRICS, Evidence, GateSettings, Verdict, judge
from labelstream.training.judgments import Integers
from labelstream.training.manifest import CodeVersion, DataSnapshot, Kind, Origin
from labelstream.training.ranker import Ranker
from labelstream.training.ranking_task import RankingTask, read_task, split_queries
from labelstream.training.registry import Entry, Registry

KIND: Kind = "ranker"


class RetrainSettings(BaseModel):
    """How a ranker is trained again, and what it must show."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_days: int = Field(default=7, ge=1, description="Newest days: labels and measures are from these.")
    held_out: float = Field(default=0.25, gt=0, lt=1, description="Share of the queries that measure.")
    keep: int = Field(default=5, ge=1, description="Versions to keep beside those that a rollback needs.")
    seed: int = Field(default=1, ge=0, description="Same snapshot, same settings, same seed: same ranker.")
    label: RankingLabel = Field(default=RankingLabel(), description="What the ranker is trained on.")
    engagement: EngagementSettings = Field(default=EngagementSettings(), description="How actions are weighed.")
    gate: GateSettings = Field(default=GateSettings(), description="What a challenger must show.")


def ranking_label(name: str) -> RankingLabel:
    """A named label.

    Raises:
        SettingsError: There is none of this name.
    """
    if name not in RANKING_LABELS:
        raise SettingsError(f"--label {name}: choose one of {', '.join(RANKING_LABELS)}")
    return RANKING_LABELS[name]


Train = Callable[[FeatureTable, Floats, Sequence[str]], Ranker]


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
    settings: RetrainSettings,
    scale: LabelScale,
    *,
    train: Train,
    snapshot: int | None = None,
    dry_run: bool = False,
) -> Retrained:
    """Train a challenger, measure it beside the champion on the same held-out queries, and promote it if it passes.

    It may run twice at once, be killed at any moment, and be repeated: the same snapshot and settings give the same
    version, and whoever was overtaken by another promotion is refused by the registry.

    Args:
        lake: Open, read-only or not.
        registry: Where versions and champions are kept.
        settings: How.
        scale: Of the labels.
        train: Trains a ranker on features, labels and queries.
        snapshot: Of the lake; None for the newest.
        dry_run: Change nothing.

    Raises:
        SettingsError: The snapshot cannot be trained on.
        StaleChampion: Another run has promoted its challenger meanwhile.
        TransientError: The lake or the registry does not answer.
    """
    task = read_task(lake, scale, settings.engagement, window_days=settings.window_days, snapshot=snapshot)
    training, held_out = split_queries(task.queries, settings.held_out)
    champion = registry.champion(KIND)
    labels = task.labels(settings.label)
    challenger = train(task.features.select(training), labels[training], [task.queries[i] for i in training])
    seen = task.features.select(held_out)
    found = task.measure(held_out, challenger.score(seen).astype(float))
    before = (
        None if champion is None else task.measure(held_out, Ranker.load(champion.folder).score(seen).astype(float))
    )
    mix = np.bincount(task.levels[training], minlength=len(scale.levels)).astype(float)
    verdict = judge(Evidence(found, before, len(training), mix, _known_mix(registry, champion)), settings.gate)
    metrics = {"challenger": _means(found), "champion": before and _means(before), "labels": mix.tolist()}
    if dry_run:
        return Retrained(None, verdict, champion, False, metrics)
    version = _add(registry, challenger, _origin(lake, task, training, settings), metrics | verdict.as_dict())
    promoted = verdict.passed and (champion is None or champion.version != version)
    if promoted:
        expected = None if champion is None else champion.version
        champion = registry.promote(KIND, version, expected=expected, reason=verdict.summary)
        registry.prune(KIND, keep=settings.keep)
    return Retrained(version, verdict, champion, promoted, metrics)


def _known_mix(registry: Registry, champion: Entry | None) -> Floats | None:
    """The labels that the champion was trained on: against these a drift of the labeller shows."""
    if champion is None:
        return None
    mix = registry.manifest(KIND, champion.version).metrics.get("labels")
    return np.array(mix, dtype=float) if isinstance(mix, list) else None


def _means(values: dict[str, Floats]) -> dict[str, float | None]:
    def mean(of: Floats) -> float | None:
        return None if np.isnan(of).all() else float(np.nanmean(of))

    return {name: mean(values[name]) for name in METRICS}


def _add(registry: Registry, ranker: Ranker, origin: Origin, metrics: dict[str, Any]) -> str:
    with registry.stage(KIND) as folder:
        ranker.save(folder)
        return registry.add(KIND, folder, origin=origin, metrics=metrics)


def _origin(lake: Lake, task: RankingTask, training: Integers, settings: RetrainSettings) -> Origin:
    rows = {"pairs": len(task), "training_pairs": len(training)}
    return Origin(
        data=DataSnapshot(lake=lake.identity, snapshot=task.snapshot, rows=rows),
        code=CodeVersion(package=package_version("labelstream")),
        settings=settings.model_dump(mode="json"),
        seed=settings.seed,
        parents=task.judges,
    )
