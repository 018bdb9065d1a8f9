from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import lmdb
import pyarrow as pa
import pytest
from lakes import Bench, a_commit, all_settings, label_rows, query
from patience import TIMEOUT
from stream import wait_until

from labelstream.schemas.errors import LabelstreamError, LakeUnavailable, SettingsError
from labelstream.schemas.settings import Settings
from labelstream.streaming import follower as module
from labelstream.streaming import unfollowed
from labelstream.streaming.follow import catch_up
from labelstream.streaming.follower import FollowTurn, StoreFollower
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.unfollowed import Unfollowed

SIZE = 64 << 20


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a machine without a Writer; the lake is shared."""
    return all_settings(tmp_path)


@pytest.fixture
def lake(settings: Settings) -> Iterator[Lake]:
    with Lake(settings.lake) as lake:
        lake.commit(a_commit(0, tables={"labels": label_rows(1)}))
        yield lake


@pytest.fixture
def store(settings: Settings) -> Iterator[LocalStore]:
    with LocalStore(settings.store.path, SIZE) as store:
        yield store


def position(store: LocalStore) -> tuple[str, int] | None:
    with store.reader() as reader:
        return reader.position


def wait_for(store: LocalStore, lake: Lake) -> None:
    target = (lake.identity, lake.snapshot)
    wait_until(lambda: position(store) == target, what=f"{target} in the store", explain=lambda: str(position(store)))


def test_a_store_without_a_writer_follows_the_lake(settings: Settings, lake: Lake, store: LocalStore):
    with StoreFollower(settings, store, interval_s=0.05) as follower:
        assert follower.has_begun.wait(TIMEOUT)
        wait_for(store, lake)
        lake.commit(a_commit(1, tables={"labels": label_rows(2)}))
        wait_for(store, lake)
        follower.check()
    with store.reader() as reader:
        assert all(reader.has_label(f"{key:032x}") for key in (1, 2))


def test_one_follows_and_the_next_takes_over(settings: Settings, lake: Lake, store: LocalStore):
    first = StoreFollower(settings, store, interval_s=0.05)
    with StoreFollower(settings, store, interval_s=0.05) as second:
        with first:
            assert first.has_begun.wait(TIMEOUT)
            assert second.has_begun.wait(TIMEOUT)
            assert [one._lake is not None for one in (first, second)].count(True) == 1
        lake.commit(a_commit(1, tables={"labels": label_rows(2)}))
        wait_for(store, lake)


def test_beside_a_writer_nobody_else_opens_the_lake(tmp_path: Path):
    with Bench(tmp_path) as bench, StoreFollower(bench.settings, bench.store, interval_s=0.05) as follower:
        assert follower.has_begun.wait(TIMEOUT)
        assert follower._lake is None


def test_a_lake_that_cannot_be_used_ends_the_follower_and_is_told(settings: Settings, store: LocalStore):
    ended = threading.Event()
    with StoreFollower(settings, store, on_error=ended.set) as follower:
        assert ended.wait(TIMEOUT)
        assert follower.has_begun.wait(TIMEOUT)
        with pytest.raises(SettingsError, match="there is no lake"):
            follower.check()


@pytest.mark.parametrize(
    "error", [duckdb.IOException("gone"), lmdb.CorruptedError("torn"), pa.ArrowInvalid("cut"), ZeroDivisionError("bug")]
)
def test_nothing_ends_the_follower_in_silence(
    settings: Settings,
    lake: Lake,
    store: LocalStore,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def broken(*_: object) -> int:
        raise error

    monkeypatch.setattr(module, "catch_up", broken)
    ended = threading.Event()
    with StoreFollower(settings, store, on_error=ended.set) as follower:
        assert ended.wait(TIMEOUT)
        with pytest.raises(LabelstreamError, match=f"{type(error).__name__}.*{error.args[0]}"):
            follower.check()
    assert "the local store is not kept up to date any more" in caplog.text
    assert lake.snapshot > 0  # nothing was wrong with the lake itself


def test_a_store_that_cannot_be_read_is_borne_like_a_lake_that_is_away(store: LocalStore):
    store.close()
    with pytest.raises(LakeUnavailable, match="local store"), store.reader():
        pass


def test_a_turn_ends_with_its_owner(tmp_path: Path):
    first, second = FollowTurn(tmp_path), FollowTurn(tmp_path)
    assert first.take()
    assert first.take()
    assert not second.take()
    first.give_up()
    assert second.take()
    second.give_up()


def test_two_that_follow_at_once_leave_the_same_store(settings: Settings, lake: Lake, store: LocalStore):
    """The turn saves work only: with or without it the store is right."""
    done, errors = threading.Event(), []

    def follow() -> None:
        try:
            with Lake(settings.lake, read_only=True) as own:
                while not done.is_set():
                    catch_up(store, own)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 9):
        lake.commit(a_commit(number, tables={"labels": label_rows(number + 1)}))
    wait_for(store, lake)
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
    with store.reader() as reader:
        assert [reader.has_label(f"{key:032x}") for key in range(11)] == [False, *[True] * 9, False]


def test_a_batch_is_looked_through_until_the_store_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Bench(tmp_path) as bench, LocalStore(tmp_path / "elsewhere", SIZE) as elsewhere:
        recent = Unfollowed(elsewhere)
        batches = [bench.prepare(query(offset, f"q{offset}", "red sofa")) for offset in range(2)]
        snapshots = [bench.writer.commit(bench.finish(batch)).snapshot for batch in batches]
        for snapshot, batch in zip(snapshots, batches, strict=True):
            recent.add(snapshot, batch)
        assert recent.batches() == batches
        with elsewhere.writer() as writer:
            writer.set_position(bench.lake.identity, snapshots[0])
        assert recent.batches() == batches[1:]
        monkeypatch.setattr(unfollowed, "MOST", 1)
        assert recent.is_full
        catch_up(elsewhere, bench.lake)
        assert not recent.is_full
        assert recent.batches() == []
