"""Ray actors as plain futures, and Ray's errors as ours."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from labelstream.schemas.errors import LakeUnavailable, TransientError
from labelstream.schemas.settings import Settings, StreamSettings
from labelstream.streaming.commit import Commit, Receipt
from labelstream.streaming.retry import Patience
from labelstream.streaming.waiting_rows import Resolvable

# Batches that a model actor may be given at once: it queues them itself, and answers small questions beside them.
CALLS_AT_ONCE = 1000
# Ray sends an actor that asks for nothing to any node at random, whatever its strategy, and a head without cores too.
CLUSTER_CPUS = 0.01


def cpus_of(settings: Settings) -> float:
    """Cores that a process of ours reserves when it does not ask for more: on a machine of its own none."""
    return 0 if settings.ray.address is None else CLUSTER_CPUS


def actor_options(settings: Settings, name: str, **options: Any) -> dict[str, Any]:
    """Ray's options for one of our actors: found by name, always restarted, and no call repeated behind our back.

    Args:
        settings: Where ``ray`` matters.
        name: Unique in the namespace.
        options: What this actor wants otherwise or on top.
    """
    return {
        "name": name,
        "namespace": settings.ray.namespace,
        "num_cpus": cpus_of(settings),
        "max_restarts": -1,
        "max_task_retries": 0,  # who makes a call decides whether to make it again
        "enable_task_events": False,  # the head would remember every call: half a MiB more a second under load
        **options,
    }


def future_of(reference: Any, name: str, unavailable: type[TransientError]) -> Future[Any]:
    """An object reference as a future.

    Args:
        reference: What a remote call returned.
        name: Whom we asked, for the message.
        unavailable: What a dead or restarting actor becomes.
    """
    ours: Future[Any] = Future()

    def pass_on(theirs: Future[Any]) -> None:
        error = theirs.exception()
        if error is None:
            ours.set_result(theirs.result())
        elif isinstance(error, RayError) and not isinstance(error, RayTaskError):
            ours.set_exception(unavailable(f"{name}: {first_line(error)}"))
        else:
            ours.set_exception(error)

    reference.future().add_done_callback(pass_on)
    return ours


def first_line(error: BaseException) -> str:
    """The first line of an error that may carry a whole traceback."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


class RemoteWriter:
    """The Writer actor, as the stream sees it."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def commit(self, commit: Commit) -> Future[Receipt]:
        """Write a batch."""
        return self._call(self._actor.commit.remote(commit))

    def offsets(self) -> Future[dict[tuple[str, int], int]]:
        """The lake's offsets."""
        return self._call(self._actor.offsets.remote())

    def resolvable(self, limit: int) -> Future[Resolvable]:
        """Waiting events that can be joined."""
        return self._call(self._actor.resolvable.remote(limit))

    def restart(self) -> None:
        """Kill it; Ray starts it afresh, and the lake's transaction is rolled back."""
        ray.kill(self._actor, no_restart=False)

    def patience(self, stream: StreamSettings) -> Patience:
        """How patient everybody is with it."""
        return Patience("writer", stream.hang_s, stream.give_up_s, self.restart)

    @staticmethod
    def _call(reference: Any) -> Future[Any]:
        return future_of(reference, "writer", LakeUnavailable)
