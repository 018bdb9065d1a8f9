"""Ray itself: joined or started, and its errors as ours where somebody waits for an answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import ray
from ray.exceptions import ActorAlreadyExistsError, RayActorError, RayError, RayTaskError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from labelstream.actors.loopback import loopback_only
from labelstream.actors.remote import first_line
from labelstream.schemas.errors import (
    LabelstreamError,
    ModelUnavailable,
    ModelUnusable,
    SettingsError,
)
from labelstream.schemas.settings import Settings
from labelstream.streaming.retry import patiently

# Actors end with whoever has started them, but Ray needs a moment to notice that somebody was killed.
NAME_IS_FREE_S = 30.0


def start_ray(settings: Settings, cpus: float | None = None) -> None:
    """Join the cluster of the settings, or start one on this machine (loopback only).

    Args:
        settings: All settings.
        cpus: Of the cluster that is started; None for those that the Labellers want.

    Raises:
        SettingsError: There is no cluster at the address.
        ModelUnavailable: It takes too long to start one.
    """
    options: dict[str, Any] = {"namespace": settings.ray.namespace, "log_to_driver": settings.ray.log_to_driver}
    is_our_own = settings.ray.address is None
    if is_our_own:
        options |= _options_of_our_own(settings, cpus)
    # Without a word, Ray would join whatever cluster it finds on this machine.
    try:
        with loopback_only() if is_our_own else nullcontext():
            ray.init(address=settings.ray.address or "local", logging_level="error", **options)
    except ConnectionError as error:
        address = f"LABELSTREAM_RAY_ADDRESS={settings.ray.address or ''}"
        raise SettingsError(f"{address}: no Ray answers there ({first_line(error)}); unset it to start one") from error
    except Exception as error:
        if "timed out during startup" not in str(error):  # Ray has no class for it
            raise
        raise ModelUnavailable("Ray has not started within half a minute, as on a machine that is very busy") from error


def _options_of_our_own(settings: Settings, cpus: float | None) -> dict[str, Any]:
    # Ray would start the actors at nice 15, behind whatever else the machine does.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # glibc gives every thread an arena of its own, and each keeps what it once had.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    # Ray would start a process for every core at once, most of which nobody ever uses: our actors start their own.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    return {
        "include_dashboard": False,
        "object_store_memory": settings.ray.object_store_bytes,
        "num_cpus": max(1, int(cpus or settings.labeller.most * settings.labeller.cpus)),
        "_node_ip_address": "127.0.0.1",
    }


def start_actor(actor: type, options: Mapping[str, Any], *arguments: Any, patience_s: float = NAME_IS_FREE_S) -> Any:
    """Start a named actor, once its name is free: the one before it may still be on its way out.

    Args:
        actor: Its class.
        options: Ray's, with a name and a namespace.
        arguments: Of the constructor.
        patience_s: How long to wait for the name.

    Raises:
        SettingsError: Somebody else goes on under this name.
    """
    taken = retry_if_exception_type(ActorAlreadyExistsError)
    again = Retrying(retry=taken, stop=stop_after_delay(patience_s), wait=wait_fixed(0.5), reraise=True)
    try:
        return again(lambda: ray.remote(actor).options(**options).remote(*arguments))
    except ActorAlreadyExistsError as error:
        raise SettingsError(
            f"{options['name']} runs already in the Ray namespace {options['namespace']}; stop the other labelstream, "
            "or give this one another LABELSTREAM_RAY_NAMESPACE"
        ) from error


def answer(reference: Any, name: str, timeout_s: float) -> Any:
    """Wait for an actor's answer.

    Raises:
        LabelstreamError: What the actor raised; ``ModelUnusable`` where it could not even start;
            ``ModelUnavailable`` where it is dead or silent.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayError as error:
        raise as_our_error(error, name) from error


def as_our_error(error: RayError, name: str) -> BaseException:
    """What an error of Ray's means to us.

    Args:
        error: As caught.
        name: Whom we asked.

    Returns:
        What the actor raised, if it is ours; ``ModelUnusable`` where it could not even start; ``ModelUnavailable``
        where it is dead or silent; else the error itself.
    """
    if isinstance(error, RayTaskError):
        return error.cause if isinstance(error.cause, LabelstreamError) else error
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return ModelUnusable(f"{name}: {_last_line(error)}")
    return ModelUnavailable(f"{name}: {first_line(error)}")


def as_callers_error(error: RayError, name: str) -> BaseException:
    """What an error of Ray's means to somebody who asks a running application.

    As ``as_our_error``, but that an actor could not start again is nothing that the caller could put right: somebody
    looks after the actors, and until then they are not available.
    """
    ours = as_our_error(error, name)
    return ModelUnavailable(f"{name}: it could not start again") if isinstance(ours, ModelUnusable) else ours


def answer_patiently(ask: Callable[[], Any], name: str, timeout_s: float, give_up_s: float) -> Any:
    """Ask an actor that may be killed and restarted while it starts.

    Args:
        ask: Makes the call.
        name: Whom we ask.
        timeout_s: Of one try.
        give_up_s: Transient errors for longer than this are raised.

    Raises:
        LabelstreamError: See ``answer``.
    """
    return patiently(lambda: answer(ask(), name, timeout_s), give_up_s)


def _last_line(error: BaseException) -> str:
    """Where an actor died in its constructor, Ray's message ends with the constructor's own error."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
