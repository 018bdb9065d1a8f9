"""Whether every part answers: what ``labelstream_ready`` tells."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from labelstream.actors.actor_names import cross_encoder_name, labeller_name
from labelstream.actors.busy_meter import WorkReport
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.actors.application import Progress


def pool_names(settings: Settings, labellers: Collection[int]) -> list[str]:
    """Names of the actors of a ``ModelPool``.

    Args:
        settings: Where ``encoder`` matters.
        labellers: Numbers of those that take work; one that loads its model could not answer.
    """
    encoders = range(settings.encoder.replicas_if_enabled)
    return [*map(labeller_name, labellers), *map(cross_encoder_name, encoders)]


def models_answer(names: Iterable[str], work: Mapping[str, WorkReport]) -> bool:
    """Whether each of these actors has reported, and none has a model that hangs.

    Args:
        names: Of actors.
        work: Of those that have reported, by their name.
    """
    return all(name in work and work[name].answers for name in names)


def stream_answers(settings: Settings, progress: Progress | None) -> bool:
    """Whether the writer and every Ingest have answered at the last look at the stream."""
    if progress is None or progress.lake is None:
        return False
    return len(progress.reports) == settings.stream.replicas
