"""What is too slow to be read at every scrape: the drift of the labels, and where the registry stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from labelstream.actors.watch import Watch
from labelstream.schemas.settings import LakeSettings
from labelstream.streaming.lake import Lake
from labelstream.streaming.status import label_drift
from labelstream.training.manifest import Kind, Manifest
from labelstream.training.registry import KINDS, Registry

INTERVAL_S = 60.0
# The drift sorts all labels: of a huge lake it takes its time, and must not do so all the time.
SHARE_OF_TIME = 0.05


class Standing(NamedTuple):
    """Where one kind of model stands.

    Attributes:
        kind: What the model does.
        champion: Version of the champion; None where there is none.
        promoted_at: When it became champion.
        trained_at: When the newest version that the gate has judged was added; None where there is none.
        passed: Whether the gate let that version pass.
        refused: Versions that the gate has refused since the champion was promoted.
    """

    kind: Kind
    champion: str | None
    promoted_at: datetime | None
    trained_at: datetime | None
    passed: bool | None
    refused: int


@dataclass(frozen=True)
class Learning:
    """A picture of lake and registry.

    Attributes:
        drift: Population stability index by model version; see ``label_drift``.
        standings: Of every kind that has a version.
    """

    drift: dict[str, float] = field(default_factory=dict)
    standings: tuple[Standing, ...] = ()


def read_learning(lake: LakeSettings, registry: Registry) -> Learning:
    """Look at lake and registry once; reads all labels.

    Raises:
        LabelstreamError: There is no lake, or one of the two does not answer.
    """
    with Lake(lake, read_only=True) as opened:
        drift = label_drift(opened)
    return Learning(drift, read_standings(registry))


def read_standings(registry: Registry) -> tuple[Standing, ...]:
    """Where every kind of model stands that has a version.

    Raises:
        LabelstreamError: The registry cannot be read.
    """
    found = [_standing(registry, kind) for kind in KINDS]
    return tuple(standing for standing in found if standing)


def _standing(registry: Registry, kind: Kind) -> Standing | None:
    champion, manifests = registry.champion(kind), registry.versions(kind)
    if champion is None and not manifests:
        return None
    judged = [manifest for manifest in manifests if isinstance(manifest.metrics.get("passed"), bool)]
    refused = [
        manifest
        for manifest in judged
        if not _passed(manifest) and (champion is None or manifest.created_at > champion.promoted_at)
    ]
    return Standing(
        kind,
        champion.version if champion else None,
        champion.promoted_at if champion else None,
        judged[-1].created_at if judged else None,
        _passed(judged[-1]) if judged else None,
        len(refused),
    )


def _passed(manifest: Manifest) -> bool:
    return bool(manifest.metrics["passed"])


def learning_watch(read: Callable[[], Learning], interval_s: float = INTERVAL_S) -> Watch[Learning]:
    """Looks every minute; its value is empty before the first picture, and while something does not answer.

    Args:
        read: Takes the picture, such as ``read_learning``.
        interval_s: Seconds from one picture to the next; more, where taking one is slow.
    """
    return Watch(
        "drift and champions",
        lambda _: read(),
        Learning(),
        interval_s,
        keeps=False,
        at_once=True,
        rest=1 / SHARE_OF_TIME,
    )
