"""Calls to named actors, on a small real Ray: what dies, comes back, hangs, or is somebody else by now."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from obliging import Obliging
from patience import TIMEOUT
from ray.exceptions import RayTaskError
from rays import small_ray
from stream import wait_until

from labelstream.actors.cluster import start_actor
from labelstream.actors.named_replicas import NO_RESERVE, NamedReplicas, Reserve
from labelstream.actors.remote import actor_options
from labelstream.actors.replica_watch import ReplicaWatch, WatchedReplica
from labelstream.schemas.errors import BadRecord, ModelUnavailable, SettingsError
from labelstream.schemas.settings import Settings
from labelstream.streaming.periodic import Periodic

SETTINGS = Settings()
NAMESPACE = SETTINGS.ray.namespace


class Few:
    """A few replicas of a kind that no other test uses, and calls to them."""

    def __init__(self, notes: Path, count: int, reserve: Reserve = NO_RESERVE) -> None:
        self.notes, self.kind = notes, f"kind-{uuid.uuid4().hex[:8]}"
        self.actors = [self.start(index) for index in range(count)]
        self.pids = [ray.get(actor.who.remote(), timeout=TIMEOUT) for actor in self.actors]
        self.replicas = NamedReplicas(SETTINGS, self.kind, count, reserve)

    def start(self, index: int, **options: Any) -> Any:
        environment = {"PYTHONPATH": str(Path(__file__).parent)}  # where Obliging is
        made = actor_options(SETTINGS, f"{self.kind}-{index}", runtime_env={"env_vars": environment})
        return start_actor(Obliging, made, self.notes, **options)

    def watch(self, answer_timeout_s: float) -> ReplicaWatch:
        """A watch over them that looks whenever it is told to."""
        watch = ReplicaWatch(NAMESPACE, interval_s=0)
        watch.add(
            WatchedReplica(f"{self.kind}-{index}", actor, answer_timeout_s, "who")
            for index, actor in enumerate(self.actors)
        )
        return watch

    async def call(self, method: str, *arguments: Any, within_s: float = TIMEOUT) -> Any:
        return await self.replicas.call(method, *arguments, deadline=time.monotonic() + within_s)

    async def pondering(self, within_s: float = TIMEOUT) -> asyncio.Task[Any]:
        """A call that an actor is working on."""
        task = asyncio.create_task(self.call("ponder", within_s=within_s))
        await self.note("pondering")
        return task

    async def note(self, name: str) -> None:
        await asyncio.to_thread(wait_until, (self.notes / name).exists, TIMEOUT, name)


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with small_ray(NAMESPACE, cores=2):
        yield


def look_until_gone(watch: ReplicaWatch, name: str) -> None:
    def is_gone() -> bool:
        watch.look()
        return name in watch.gone

    wait_until(is_gone, what=name)


def run(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(call)


def test_the_least_busy_replica_is_asked(tmp_path: Path):
    few = Few(tmp_path, 2)

    async def ask() -> set[int]:
        pondering = await few.pondering()
        answers = {await few.call("who") for _ in range(4)}
        pondering.cancel()
        await asyncio.gather(pondering, return_exceptions=True)
        return answers | {await few.call("who")}  # nobody is busy any more, so the first one

    assert run(ask()) == set(few.pids)


def test_a_call_whose_time_is_over_is_cancelled_where_it_runs(tmp_path: Path):
    few = Few(tmp_path, 1)

    async def ask() -> None:
        with pytest.raises(TimeoutError):
            await (await few.pondering(within_s=2))
        await few.note("cancelled")

    run(ask())


def test_a_call_that_nobody_waits_for_is_cancelled_where_it_runs(tmp_path: Path):
    few = Few(tmp_path, 1)

    async def ask() -> None:
        (await few.pondering()).cancel()
        await few.note("cancelled")

    run(ask())


def test_what_an_actor_raises_comes_through(tmp_path: Path):
    few = Few(tmp_path, 1)
    with pytest.raises(BadRecord, match="odd") as ours:
        run(few.call("fail", BadRecord("odd", field="title")))
    assert (type(ours.value), ours.value.field) == (BadRecord, "title")
    with pytest.raises(RayTaskError) as theirs:
        run(few.call("fail", ValueError("a bug")))
    assert not isinstance(theirs.value, ModelUnavailable)


def test_a_replica_that_is_killed_costs_another_try(tmp_path: Path):
    few = Few(tmp_path, 2)
    ray.kill(few.actors[0])

    async def ask() -> set[int]:
        return {await few.call("who") for _ in range(4)}

    assert run(ask()) == {few.pids[1]}


def test_replicas_that_come_are_asked_and_those_that_go_are_not(tmp_path: Path):
    few = Few(tmp_path, 2)

    async def ask() -> None:
        few.replicas.use([0])
        pondering = await few.pondering()
        assert {await few.call("who") for _ in range(2)} == {few.pids[0]}
        few.replicas.use([0, 1])
        assert await few.call("who") == few.pids[1]
        few.replicas.use([0])
        ray.kill(few.actors[1])
        few.actors[1] = await asyncio.to_thread(few.start, 1)
        few.replicas.use([0, 1])
        assert await few.call("who") not in few.pids, "the one of this name that is gone"
        few.replicas.use([0])
        pondering.cancel()
        await asyncio.gather(pondering, return_exceptions=True)

    run(ask())


def test_those_of_the_reserve_are_asked_first_until_they_have_enough(tmp_path: Path):
    few = Few(tmp_path, 2, Reserve(1, calls=2))

    async def ask() -> list[int]:
        pondering = [await few.pondering()]
        answers = [await few.call("who")]
        pondering.append(await few.pondering())
        answers.append(await few.call("who"))
        for call in pondering:
            call.cancel()
        await asyncio.gather(*pondering, return_exceptions=True)
        return [*answers, await few.call("who")]

    assert run(ask()) == [few.pids[0], few.pids[1], few.pids[0]]


def test_one_that_has_let_a_deadline_pass_is_asked_after_the_others(tmp_path: Path):
    few = Few(tmp_path, 2)

    async def ask() -> set[int]:
        with pytest.raises(TimeoutError):
            await (await few.pondering(within_s=1))
        return {await few.call("who") for _ in range(3)}

    assert run(ask()) == {few.pids[1]}


def test_one_whose_caller_has_gone_is_asked_again(tmp_path: Path):
    few = Few(tmp_path, 2)

    async def ask() -> int:
        pondering = await few.pondering()
        pondering.cancel()
        await asyncio.gather(pondering, return_exceptions=True)
        return int(await few.call("who"))

    assert run(ask()) == few.pids[0]


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([], True),
        (["{0} hangs"], True),
        (["the model of {0} hangs"], True),
        (["{0} hangs", "the model of {1} hangs"], False),
        (["the model of {0} hangs", "the model of {1} hangs"], False),
    ],
)
def test_they_answer_as_long_as_one_of_them_does(notes: list[str], expected: bool, tmp_path: Path):
    few = Few(tmp_path, 2)
    for note in notes:
        (tmp_path / note.format(f"{few.kind}-0", f"{few.kind}-1")).touch()
    within_s = TIMEOUT if expected else 2  # who hangs is waited for until the end

    async def ask() -> bool:
        return await few.replicas.any_answers(time.monotonic() + within_s)

    assert run(ask()) is expected


def test_one_that_is_dead_does_not_answer(tmp_path: Path):
    few = Few(tmp_path, 1)
    ray.kill(few.actors[0])

    async def ask() -> bool:
        return await few.replicas.any_answers(time.monotonic() + TIMEOUT)

    assert run(ask()) is False


def test_a_replica_that_restarts_is_waited_for(tmp_path: Path):
    few = Few(tmp_path, 1)

    async def ask() -> int:
        assert await few.call("who") == few.pids[0]
        os.kill(few.pids[0], signal.SIGKILL)
        return int(await few.call("who"))

    assert run(ask()) != few.pids[0]


def test_a_new_actor_of_an_old_name_is_found(tmp_path: Path):
    few = Few(tmp_path, 1)

    async def ask() -> int:
        assert await few.call("who") == few.pids[0]
        ray.kill(few.actors[0])
        few.actors[0] = await asyncio.to_thread(few.start, 0)  # as soon as the name is free
        return int(await few.call("who"))

    assert run(ask()) != few.pids[0]


def test_an_actor_that_cannot_start_again_is_unavailable_and_told(tmp_path: Path):
    few = Few(tmp_path, 1)
    (tmp_path / "do not start").touch()
    watch = few.watch(60.0)
    os.kill(few.pids[0], signal.SIGKILL)
    look_until_gone(watch, f"{few.kind}-0")
    with pytest.raises(ModelUnavailable, match="could not start again"):
        run(few.call("who", within_s=5))


def test_a_name_that_somebody_has_is_not_taken_from_him(tmp_path: Path):
    few = Few(tmp_path, 1)
    with pytest.raises(SettingsError, match=f"{few.kind}-0 runs already.*LABELSTREAM_RAY_NAMESPACE"):
        few.start(0, patience_s=0.1)
    assert run(few.call("who")) == few.pids[0]


def test_a_replica_that_hangs_is_restarted(tmp_path: Path):
    few = Few(tmp_path, 1)
    watch = few.watch(3.0)
    with Periodic("watch", watch.look, 0.1):
        os.kill(few.pids[0], signal.SIGSTOP)  # the call that it has taken fails when it is killed
        assert run(few.call("who")) != few.pids[0]
    assert not watch.gone


def test_a_replica_that_is_dead_for_good_is_told_until_it_is_no_longer_watched(tmp_path: Path):
    few = Few(tmp_path, 2)
    watch = few.watch(60.0)
    ray.kill(few.actors[1])
    look_until_gone(watch, f"{few.kind}-1")
    watch.look()
    assert watch.gone == {f"{few.kind}-1"}
    watch.remove(f"{few.kind}-1")
    watch.look()
    assert not watch.gone


def test_a_replica_that_cannot_be_looked_at_does_not_keep_the_watch_from_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    few = Few(tmp_path, 1)
    watch = ReplicaWatch(NAMESPACE, interval_s=0)
    watch.add([WatchedReplica("odd", few.actors[0], 60.0, "no such method")])
    watch.add([WatchedReplica(f"{few.kind}-0", few.actors[0], 60.0, "who")])
    ray.kill(few.actors[0])
    look_until_gone(watch, f"{few.kind}-0")
    assert "odd cannot be looked at" in caplog.text
