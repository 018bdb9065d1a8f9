"""Labellers that come and go while work is under way, on a small real Ray and, once, with a real Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from labellers import HURRY, FixedTimeLabeller, ObedientLabeller
from patience import TIMEOUT
from rays import small_ray
from stream import KnownLog, look_until, stream_settings, wait_until
from uniform import JUDGE

from labelstream.actors import labeller_scaling, model_pool
from labelstream.actors.application import Application, Progress
from labelstream.actors.labeller_scaling import AGAIN_S, LEAVE_S, LabellerCount, LabellerScaling
from labelstream.actors.model_pool import ModelPool
from labelstream.actors.named_replicas import NamedReplicas
from labelstream.actors.replica_watch import ReplicaWatch
from labelstream.actors.work_reports import work_reports
from labelstream.schemas.model_settings import EncoderSettings, LabellerSettings
from labelstream.schemas.settings import KafkaSettings, RaySettings, Settings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.lake import Lake
from labelstream.streaming.topics import ensure_topics

NAMESPACE = "scaling"
MakeSettings = Callable[..., KafkaSettings]


class Fleet:
    """A pool of obedient Labellers and its scaling, with a clock that is set by hand."""

    def __init__(self, folder: Path, most: int) -> None:
        labeller = LabellerSettings(
            model=str(folder), cpus=0, max_replicas=most, drain_target_s=10, target_requests=4, scale_down_delay_s=30
        )
        encoder, ray_settings = EncoderSettings(enabled=False), RaySettings(namespace=NAMESPACE)
        self.settings = Settings(labeller=labeller, encoder=encoder, ray=ray_settings)
        self.folder, self.now = folder, 1000.0
        self.pool = ModelPool(self.settings)
        self.watch = ReplicaWatch(NAMESPACE, interval_s=0)
        self.scaling = LabellerScaling(self.settings, self.pool, self.pool.judge(), self.watch, lambda: self.now)

    def note(self, name: str, value: object) -> None:
        (self.folder / name).write_text(str(value))

    def look(self, seconds: float = 0) -> LabellerCount:
        """A look, so much later than the last one."""
        self.now += seconds
        self.watch.look()
        return self.scaling.look(lag=0, records=0)

    def overload(self) -> None:
        """Enough requests, for long enough, that another Labeller is started."""
        self.note("requests", 5)
        there = self.look().ready
        assert self.look(10).wanted == there + 1

    def add(self, *numbers: int) -> None:
        """Have another Labeller; afterwards these take work."""
        self.overload()
        self.look_until(LabellerCount(len(numbers), numbers))

    def look_until(self, expected: LabellerCount) -> None:
        """Look, with the clock standing still, until this is so."""
        wait_until(lambda: self.look() == expected, what=str(expected), explain=lambda: str(self.look()))

    def names(self) -> set[str]:
        return {named["name"] for named in ray.util.list_named_actors(all_namespaces=True)}

    def wait_for_names(self, *names: str) -> None:
        wait_until(lambda: self.names() == set(names), what=str(names), explain=lambda: str(self.names()))


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with small_ray(NAMESPACE):
        yield


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with fleet_of(2, tmp_path, monkeypatch) as fleet:
        yield fleet


@pytest.fixture
def fleet_of_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with fleet_of(3, tmp_path, monkeypatch) as fleet:
        yield fleet


@contextmanager
def fleet_of(most: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(model_pool, "Labeller", ObedientLabeller)
    fleet = Fleet(folder, most)
    yield fleet
    fleet.pool.close()
    fleet.wait_for_names()


def test_requests_bring_a_labeller_and_quiet_takes_it_away(fleet: Fleet):
    fleet.overload()
    fleet.look_until(LabellerCount(2, (0, 1)))
    fleet.note("requests", 0)
    fleet.note("under way", 1)
    fleet.look()
    assert fleet.look(10) == (2, (0, 1))
    assert fleet.look(30) == (1, (0,))
    assert fleet.look(LEAVE_S) == (1, (0,))
    assert fleet.names() == {"labeller-0", "labeller-1"}, "it has something left to do"
    fleet.note("under way", 0)
    fleet.look()
    fleet.wait_for_names("labeller-0")


def test_one_that_does_not_finish_goes_all_the_same(fleet: Fleet):
    fleet.overload()
    fleet.look_until(LabellerCount(2, (0, 1)))
    fleet.note("requests", 0)
    fleet.note("under way", 1)
    for seconds in (0, 10, 30, LEAVE_S + fleet.settings.labeller.answer_timeout_s):
        fleet.look(seconds)
    fleet.wait_for_names("labeller-0")


def test_a_labeller_with_another_model_takes_no_work(fleet: Fleet, caplog: pytest.LogCaptureFixture):
    fleet.note("model", "another")
    fleet.overload()
    wait_until(lambda: fleet.look() == (2, (0,)) and len(fleet.pool.labellers) == 1, what="it is ended")
    assert "labeller-1 cannot be used and is tried again in 300 s: it holds another model" in caplog.text
    assert fleet.look(AGAIN_S / 2) == (2, (0,))
    fleet.wait_for_names("labeller-0")
    fleet.note("model", JUDGE.model_version)
    fleet.look(AGAIN_S)
    fleet.look_until(LabellerCount(2, (0, 1)))


def test_one_that_is_dead_for_good_goes_alone_and_its_number_comes_again(
    fleet_of_three: Fleet, caplog: pytest.LogCaptureFixture
):
    fleet = fleet_of_three
    fleet.add(0, 1)
    fleet.add(0, 1, 2)
    before = fleet.pool.labellers
    ray.kill(before[1])
    wait_until(lambda: fleet.look().numbers == (0, 2), what="it is noticed")
    assert fleet.pool.labellers == {0: before[0], 2: before[2]}
    assert "labeller-1 cannot be used and is tried again in 300 s: it is dead" in caplog.text
    fleet.wait_for_names("labeller-0", "labeller-2")
    asyncio.run(ask_for_a_judgement(fleet, 0, 2))
    fleet.look(AGAIN_S)
    fleet.look_until(LabellerCount(3, (0, 1, 2)))
    after = fleet.pool.labellers
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] != before[1]
    asyncio.run(ask_for_a_judgement(fleet, 0, 1, 2))
    fleet.note("requests", 0)
    fleet.look()
    fleet.look(10)
    assert fleet.look(30).numbers == (0, 1), "the highest number is the first to go"


async def ask_for_a_judgement(fleet: Fleet, *numbers: int) -> None:
    """Of each of them at once, as the endpoint does that has heard of them."""
    replicas = NamedReplicas(fleet.settings, "labeller", fleet.settings.labeller.replicas)
    replicas.use(numbers)
    deadline = time.monotonic() + TIMEOUT
    calls = [replicas.call("judge", ["q"], ["p"], 0, deadline=deadline) for _ in numbers]
    assert len(await asyncio.gather(*calls)) == len(numbers)


def test_one_that_is_dead_for_good_does_not_stop_the_one_that_loads(fleet_of_three: Fleet):
    fleet = fleet_of_three
    fleet.add(0, 1)
    fleet.note("loads for ever", "labeller-2")
    fleet.overload()
    ray.kill(fleet.pool.labellers[1])
    wait_until(lambda: fleet.look().numbers == (0,), what="it is noticed")
    fleet.note("loads for ever", "nobody")
    fleet.look_until(LabellerCount(2, (0, 2)))


def test_one_that_cannot_start_again_is_dead_for_good(fleet: Fleet):
    fleet.add(0, 1)
    fleet.note("does not start", "labeller-1")
    ray.kill(fleet.pool.labellers[1], no_restart=False)
    wait_until(lambda: fleet.look().numbers == (0,), what="it is noticed")
    fleet.wait_for_names("labeller-0")


@pytest.mark.slow
@pytest.mark.broker
def test_a_backlog_brings_a_labeller_that_gets_work_and_nothing_is_lost(
    kafka: KafkaCluster, fresh_topics: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(model_pool, "Labeller", FixedTimeLabeller)
    monkeypatch.setattr(labeller_scaling, "LEAVE_S", 0.5)
    labeller = LabellerSettings(model=str(tmp_path), cpus=0, max_replicas=2, drain_target_s=1, scale_down_delay_s=0.5)
    other = {"encoder": EncoderSettings(enabled=False), "ray": RaySettings(namespace=NAMESPACE), "labeller": labeller}
    settings = stream_settings(tmp_path, fresh_topics(kafka.bootstrap_servers), batch_records=40).model_copy(
        update=other
    )
    ensure_topics(settings.kafka)
    log = KnownLog(11, 250)
    most = len(log.events) * 3 // 4
    log.send_products(settings.kafka)
    log.send_events(settings.kafka, 0, most)
    with Application(settings) as application:
        look_until(application, lambda progress: progress.labellers == (2, (0, 1)), "a second Labeller")

        def second_has_worked(_: Progress) -> bool:
            work = work_reports(settings, [0, 1])
            return "labeller-1" in work and work["labeller-1"].pairs > 0

        look_until(application, second_has_worked, "work for the second")
        (tmp_path / HURRY).touch()  # the backlog has done its part
        look_until(application, application.is_drained, "all is drained")
        look_until(application, lambda progress: progress.labellers == (1, (0,)), "it is quiet")
        look_until(application, lambda _: len(application.pool.labellers) == 1, "the second has ended")
        log.send_events(settings.kafka, most)
        look_until(application, application.is_drained, "the rest is drained")
        assert application.stop() == 0
    with Lake(settings.lake, read_only=True) as lake:
        log.check(lake)


@pytest.mark.slow
@pytest.mark.broker
def test_the_stream_leaves_those_alone_that_are_reserved_for_requests(
    kafka: KafkaCluster, fresh_topics: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(model_pool, "Labeller", FixedTimeLabeller)
    (tmp_path / HURRY).touch()
    labeller = LabellerSettings(model=str(tmp_path), cpus=0, replicas=2, reserved=1)
    other = {"encoder": EncoderSettings(enabled=False), "ray": RaySettings(namespace=NAMESPACE), "labeller": labeller}
    settings = stream_settings(tmp_path, fresh_topics(kafka.bootstrap_servers)).model_copy(update=other)
    ensure_topics(settings.kafka)
    log = KnownLog(12, 40)
    log.send_products(settings.kafka)
    log.send_events(settings.kafka)
    with Application(settings) as application:
        look_until(application, application.is_drained, "all is drained")
        work = work_reports(settings, application.scaling.count.numbers)
        assert application.stop() == 0
    assert (work["labeller-0"].batches, work["labeller-1"].pairs) == (0, len(log.pairs))
    with Lake(settings.lake, read_only=True) as lake:
        log.check(lake)
