"""What every actor does with the process that it gets."""

from __future__ import annotations

import os

import ray

from labelstream.actors.endpoint.logs import configure_logging
from labelstream.schemas.settings import Settings

_BEHIND_MODELS = 5  # on Unix' scale: with a third of a model's share


def in_an_actor() -> bool:
    """Whether this process is an actor's own, and not somebody else's, such as a test's."""
    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


def log_as_an_actor(settings: Settings) -> None:
    """Give what this process says on standard error the look that the settings ask for; see ``in_an_actor``.

    Ray sets up its own loggers only: of ours, what is less than a warning would be lost, and the rest have no time.
    """
    if in_an_actor():
        configure_logging(settings)


def yield_to_models() -> None:
    """Have this process step back where it and a model want the same core; see ``in_an_actor``.

    The model is what all wait for.
    """
    if in_an_actor():
        os.nice(_BEHIND_MODELS)
