from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from lakes import all_settings, label_rows
from patience import TIMEOUT
from standins import SilentPublisher, ThreadWriter, done, failed
from stream import wait_until

from labelstream.actors import label_keeper
from labelstream.actors.label_keeper import LabelKeeper, LatePublisher
from labelstream.schemas.errors import BrokerUnavailable, LakeUnavailable
from labelstream.schemas.settings import KafkaSettings, Settings
from labelstream.schemas.tables import LABELS
from labelstream.streaming.commit import Commit, Receipt
from labelstream.streaming.lake import Lake
from labelstream.streaming.retry import Patience


class CountingPublisher(SilentPublisher):
    """Remembers which labels it was given."""

    def __init__(self) -> None:
        self.keys: list[int] = []

    def publish(self, commit: Commit) -> Future[None]:
        self.keys += keys(commit)
        return super().publish(commit)


class ReturningPublisher(CountingPublisher):
    """Finds no broker the first times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def publish(self, commit: Commit) -> Future[None]:
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailable("no broker")
        return super().publish(commit)


class CountingWriter:
    """Writes into memory."""

    def __init__(self) -> None:
        self.keys: list[int] = []

    def commit(self, commit: Commit) -> Future[Receipt]:
        self.keys += keys(commit)
        return done(Receipt(1, repeated=False, duplicates=0))


class FullWriter(CountingWriter):
    """Has no room until it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.has_room = False

    def commit(self, commit: Commit) -> Future[Receipt]:
        return super().commit(commit) if self.has_room else failed(LakeUnavailable("the disk is full"))


class BuggyWriter(CountingWriter):
    """Fails once in a way that nobody thought of."""

    def commit(self, commit: Commit) -> Future[Receipt]:
        if not self.keys:
            self.keys.append(-1)
            return failed(ZeroDivisionError("a bug"))
        return super().commit(commit)


class SilentWriter(CountingWriter):
    """Never answers until it is restarted."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.restarted = threading.Event(), threading.Event()

    def commit(self, commit: Commit) -> Future[Receipt]:
        self.asked.set()
        return super().commit(commit) if self.restarted.is_set() else Future()


def keys(commit: Commit) -> list[int]:
    return [int(key, 16) for key in commit.tables[LABELS.name].column("label_key").to_pylist()]


def labels(*numbers: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = label_rows(*numbers).to_pylist()
    return found


def keeper(publisher: Any, writer: Any, *, give_up_s: float = 60, **options: Any) -> LabelKeeper:
    broker, lake = Patience("broker", 60, give_up_s), Patience("writer", 60, give_up_s)
    return LabelKeeper(publisher, writer, **({"broker_patience": broker, "writer_patience": lake} | options))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_keeper, "_LINGER_S", 0.02)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return all_settings(tmp_path)


@pytest.fixture
def lake_writer(settings: Settings) -> Iterator[ThreadWriter]:
    writer = ThreadWriter(settings)
    yield writer
    writer.close()


def test_a_label_is_written_once_however_often_it_comes(settings: Settings, lake_writer: ThreadWriter):
    kept = keeper(CountingPublisher(), lake_writer)
    first, *others = labels(1, 1, 2)
    kept.put([first | {"request_id": "first"}, *others])
    wait_until(lambda: kept.report().kept == 2)
    kept.put(labels(2, 3))
    kept.close()
    with Lake(settings.lake, read_only=True) as lake:
        rows = lake.query("SELECT label_key, request_id FROM labels ORDER BY 1")
    assert [(int(key, 16), request) for key, request in rows] == [(1, "first"), (2, None), (3, None)]
    assert kept.report() == (4, 0)


def test_a_broker_that_is_away_for_a_while_loses_nothing_and_comes_before_the_lake():
    publisher, writer = ReturningPublisher(2), CountingWriter()
    kept = keeper(publisher, writer)
    kept.put(labels(1, 2))
    wait_until(lambda: kept.report().kept == 2)
    assert (publisher.keys, writer.keys, kept.report().lost) == ([1, 2], [1, 2], 0)
    kept.close()


def test_what_cannot_be_written_for_too_long_is_counted_and_the_next_rows_are_tried(caplog: pytest.LogCaptureFixture):
    writer = FullWriter()
    kept = keeper(None, writer, give_up_s=0.1)
    kept.put(labels(1, 2))
    wait_until(lambda: kept.report().lost == 2)
    kept.put(labels(3))
    wait_until(lambda: kept.report().lost == 3)
    writer.has_room = True
    kept.put(labels(4))
    kept.close()
    assert (writer.keys, kept.report().kept) == ([4], 1)
    assert "the disk is full" in caplog.text


def test_an_error_that_nobody_thought_of_does_not_end_it():
    writer = BuggyWriter()
    kept = keeper(None, writer)
    kept.put(labels(1))
    wait_until(lambda: kept.report().lost == 1)
    kept.put(labels(2))
    kept.close()
    assert (writer.keys, kept.report().kept) == ([-1, 2], 1)


def test_a_writer_that_hangs_is_restarted():
    writer = SilentWriter()
    kept = keeper(None, writer, writer_patience=Patience("writer", 0.05, 60, writer.restarted.set))
    kept.put(labels(1))
    wait_until(lambda: kept.report().kept == 1)
    kept.close()
    assert writer.keys == [1]


def test_close_keeps_what_waits():
    writer = CountingWriter()
    kept = keeper(None, writer)
    for number in range(50):
        kept.put(labels(number))
    kept.close()
    assert (writer.keys, kept.report().kept, kept.report().lost) == (list(range(50)), 50, 0)


def test_close_does_not_wait_for_a_lake_that_is_away():
    kept = keeper(None, FullWriter(), close_s=0.1)
    kept.put(labels(1, 2, 3))
    kept.close()
    assert kept.report() == (0, 3)


def test_nobody_waits_while_too_many_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(label_keeper, "_MOST_WAITING", 5)
    writer = SilentWriter()
    kept = keeper(None, writer, close_s=0.1)
    kept.put(labels(0))
    assert writer.asked.wait(TIMEOUT)
    kept.put(labels(*range(1, 11)))
    assert kept.report().lost == 5
    kept.close()
    assert kept.report() == (0, 11)


def test_without_a_broker_the_publisher_is_made_and_fails_only_when_it_is_used():
    publisher = LatePublisher(KafkaSettings(bootstrap_servers="127.0.0.1:1", request_timeout_ms=1000))
    publisher.close()
    with pytest.raises(BrokerUnavailable):
        publisher.publish(Commit("asked for", (), {LABELS.name: label_rows(1)}))
    publisher.close()
