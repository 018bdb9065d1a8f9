"""The metrics of everything behind the endpoint: stream, lake, models, registry, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from labelstream import __version__
from labelstream.actors import metric_list as names
from labelstream.actors.actor_names import kind_and_number
from labelstream.actors.busy_meter import WorkReport
from labelstream.actors.learning_watch import Learning, Standing
from labelstream.actors.metric_list import Metric
from labelstream.schemas.tables import OUTCOMES
from labelstream.streaming.durations import BOUNDS
from labelstream.streaming.ingest import IngestReport

if TYPE_CHECKING:
    from labelstream.actors.application import Progress
    from labelstream.actors.label_keeper import KeeperReport
    from labelstream.actors.labeller_scaling import LabellerCount

Series = Mapping[tuple[str, ...], float]
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

# An event that waits is taken off this sum once it is resolved, so it is a gauge and no counter.
_WAITING = "waiting"


@dataclass(frozen=True)
class Observed:
    """What is known at one moment.

    Attributes:
        ready: Whether every part answers.
        progress: Of the stream; None where there is none here, or it has not begun.
        work: Of each model actor that answers, by its name, such as ``labeller-0``.
        store: Entries of a local store that no Ingest reports, by kind.
        learning: Drift and champions.
        keeper: Of labels that were asked for; None where they are not kept.
        labellers: How many there should be, and which take work; None before they are there.
    """

    ready: bool
    progress: Progress | None = None
    work: Mapping[str, WorkReport] = field(default_factory=dict)
    store: Mapping[str, int] = field(default_factory=dict)
    learning: Learning = field(default_factory=Learning)
    keeper: KeeperReport | None = None
    labellers: LabellerCount | None = None


class StreamMetrics(Collector):
    """Looks when it is asked, and keeps nothing.

    Args:
        observe: Takes a look; called once a scrape, from the thread that asks.
    """

    def __init__(self, observe: Callable[[], Observed]) -> None:
        self._observe = observe

    def collect(self) -> Iterable[Family]:
        """One look as metric families."""
        return families(self._observe())

    def registry(self) -> CollectorRegistry:
        """A registry of its own with nothing else in it."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry


def metrics_text(observed: Observed) -> str:
    """One look in Prometheus' text format."""
    return generate_latest(StreamMetrics(lambda: observed).registry()).decode()


def families(observed: Observed) -> Iterator[Family]:
    """Every metric that has a value now."""
    simple: dict[Metric, Series] = {
        names.BUILD_INFO: {(__version__,): 1},
        names.READY: {(): observed.ready},
        **(_labellers(observed.labellers) if observed.labellers is not None else {}),
        **(_progress(observed.progress) if observed.progress is not None else {}),
        **(_keeper(observed.keeper) if observed.keeper is not None else {}),
        **_work(observed.work),
        **_learning(observed.learning),
    }
    reports = observed.progress.reports if observed.progress is not None else []
    stores = {str(report.replica): report.store for report in reports} | {"endpoint": observed.store}
    simple[names.STORE_ENTRIES] = {
        (kind, replica): count for replica, store in stores.items() for kind, count in store.items()
    }
    yield from (_family(metric, series) for metric, series in simple.items() if series)
    if reports:
        yield _batch_seconds(reports)


def _labellers(count: LabellerCount) -> dict[Metric, Series]:
    return {names.LABELLERS_WANTED: {(): count.wanted}, names.LABELLERS_READY: {(): count.ready}}


def _progress(progress: Progress) -> dict[Metric, Series]:
    found: dict[Metric, Series] = {names.RESTARTS: {(): progress.restarts}, **_reports(progress.reports)}
    if progress.lag is not None:
        found[names.LAG] = {(): progress.lag}
    if progress.lake is not None:
        totals = progress.lake.totals
        found[names.RECORDS] = {(outcome,): totals[outcome] for outcome in OUTCOMES if outcome != _WAITING}
        found[names.WAITING] = {(): totals[_WAITING]}
    return found


def _keeper(report: KeeperReport) -> dict[Metric, Series]:
    return {names.KEPT_LABELS: {(): report.kept}, names.LOST_LABELS: {(): report.lost}}


def _reports(reports: Iterable[IngestReport]) -> dict[Metric, Series]:
    by_replica = {(str(report.replica),): report for report in reports}
    fields: dict[Metric, Callable[[IngestReport], float]] = {
        names.BATCHES: lambda report: report.batches,
        names.BATCHES_IN_FLIGHT: lambda report: report.in_flight,
        names.PAIRS: lambda report: report.pairs,
        names.STALE_BATCHES: lambda report: report.stale_batches,
        names.FAILED_COMMITS: lambda report: report.failed_commits,
    }
    return {
        metric: {replica: value(report) for replica, report in by_replica.items()} for metric, value in fields.items()
    }


def _batch_seconds(reports: Iterable[IngestReport]) -> HistogramMetricFamily:
    metric = names.BATCH_SECONDS
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for report in reports:
        cumulative = accumulate(report.batch_seconds.counts)
        bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
        buckets = [(bound, float(count)) for bound, count in zip(bounds, cumulative, strict=True)]
        family.add_metric([str(report.replica)], buckets, report.batch_seconds.sum_s)
    return family


def _work(work: Mapping[str, WorkReport]) -> dict[Metric, Series]:
    by_actor = {kind_and_number(name): report for name, report in work.items()}
    fields: dict[Metric, Callable[[WorkReport], float]] = {
        names.MODEL_PAIRS: lambda report: report.pairs,
        names.MODEL_ERRORS: lambda report: report.errors,
        names.MODEL_BATCHES: lambda report: report.batches,
        names.MODEL_BUSY: lambda report: report.busy_s,
        names.MODEL_STARTED: lambda report: report.started_at,
    }
    return {metric: {actor: value(report) for actor, report in by_actor.items()} for metric, value in fields.items()}


def _learning(learning: Learning) -> dict[Metric, Series]:
    standings = learning.standings
    return {
        names.DRIFT: {(version,): psi for version, psi in learning.drift.items()},
        names.CHAMPION: {(one.kind, one.champion): 1 for one in standings if one.champion is not None},
        names.PROMOTED: _known(standings, lambda one: _unix_time(one.promoted_at)),
        names.RETRAINED: _known(standings, lambda one: _unix_time(one.trained_at)),
        names.RETRAIN_PASSED: _known(standings, lambda one: one.passed),
        names.REFUSALS: _known(standings, lambda one: one.refused),
    }


def _known(standings: Iterable[Standing], value: Callable[[Standing], float | None]) -> Series:
    found = {(standing.kind,): value(standing) for standing in standings}
    return {kind: known for kind, known in found.items() if known is not None}


def _unix_time(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _family(metric: Metric, series: Series) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in series.items():
        family.add_metric(labels, float(value))
    return family
