"""What the actors with models have done, asked all at once."""

from __future__ import annotations

from collections.abc import Collection

import ray
from ray.exceptions import RayError

from labelstream.actors.actor_names import ranker_name
from labelstream.actors.busy_meter import WorkReport
from labelstream.actors.readiness import pool_names
from labelstream.schemas.settings import Settings

# A scrape is given up after ten seconds by default.
ASK_S = 2.0


def work_reports(settings: Settings, labellers: Collection[int]) -> dict[str, WorkReport]:
    """What each model actor has done, by its name; those that do not answer at once are left out.

    Args:
        settings: Where ``encoder`` and ``ray`` matter.
        labellers: See ``pool_names``.
    """
    if not ray.is_initialized():  # Ray would start itself at the first question
        return {}
    asked = {}
    for name in (*pool_names(settings, labellers), ranker_name()):
        try:
            actor = ray.get_actor(name, namespace=settings.ray.namespace)
        except ValueError:  # not started yet, dead for good, or no part of this command
            continue
        asked[actor.report.remote()] = name
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ASK_S) if asked else ([], [])
    found = {}
    for reference in done:
        try:
            found[asked[reference]] = ray.get(reference)
        except RayError:  # it is being restarted
            continue
    return found
