"""The lake on a real PostgreSQL: several writers and readers at once, each a process of its own."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lakes import EVENTS, a_commit, all_settings, count, label_rows, requested, waiting_rows
from patience import TIMEOUT
from postgres import PostgresServer, postgres_server
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from labelstream.schemas.errors import LakeBusy, LakeUnavailable, StaleBatch
from labelstream.schemas.settings import LakeSettings, Settings
from labelstream.streaming.commit import Commit
from labelstream.streaming.lake import Lake
from labelstream.streaming.maintenance import compact
from labelstream.streaming.writer import LakeWriter

MakeSettings = Callable[[str], Settings]
# As those do who call a writer: on a slow machine one of two can lose for longer than the writer itself is patient.
PERSISTENT = Retrying(
    retry=retry_if_exception_type(LakeBusy), stop=stop_after_delay(50), wait=wait_random(0, 0.1), reraise=True
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def machine(server: PostgresServer, tmp_path: Path) -> MakeSettings:
    """Settings of one machine: the lake is shared, the store is its own."""
    lake = LakeSettings(catalog=server.new_database(), data_path=str(tmp_path / "data"))

    def make(name: str) -> Settings:
        return all_settings(tmp_path / name, lake=lake)

    return make


@pytest.fixture
def two(machine: MakeSettings) -> Iterator[tuple[Lake, Lake]]:
    """Two connections to a new lake."""
    settings = machine("a").lake
    with Lake(settings) as first, Lake(settings) as second:
        yield first, second


def overlapping(mine: Commit, other: Commit, two: tuple[Lake, Lake]) -> None:
    """Have one commit begin before, and end after, another one."""
    first, second = two
    first.execute("BEGIN")
    first._check_fence(mine)
    first._write(mine)
    second.commit(other)
    with pytest.raises(LakeBusy):
        first.execute("COMMIT")


@pytest.mark.parametrize("known", [0, 1], ids=["first batch of all", "known partition"])
def test_two_that_begin_at_the_same_offset_cannot_both_commit(two: tuple[Lake, Lake], known: int):
    for offset in range(known):
        two[0].commit(a_commit(offset))
    mine = a_commit(known)
    overlapping(mine, a_commit(known), two)
    with pytest.raises(StaleBatch):
        two[0].commit(mine)
    assert two[0].query("SELECT * FROM offsets") == [(EVENTS, 0, known + 1)]


@pytest.mark.parametrize("compacted", [False, True])
def test_commits_that_overlap_follow_each_other_whatever_they_hold(two: tuple[Lake, Lake], compacted: bool):
    """So a new partition begins once, and what a commit has checked is still so when it is done."""
    two[0].commit(a_commit(0, tables={"waiting": waiting_rows(0, "sofa")}))
    two[0].commit(a_commit(0, partition=1))
    if compacted:  # the rows of ``offsets`` are then in a file
        list(compact(two[0], 0))
    resolving = a_commit(0, tables={}, resolved=[(EVENTS, 0, 0)])
    resolving = Commit(resolving.batch_id, (), {}, resolved=resolving.resolved)
    commits = [a_commit(0, partition=2), a_commit(1, partition=1), resolving]
    for mine in commits:
        overlapping(mine, a_commit(two[0].offsets()[EVENTS, 0], partition=0), two)
        assert two[0].commit(mine)
    assert two[0].query("SELECT * FROM offsets ORDER BY ALL") == [(EVENTS, 0, 4), (EVENTS, 1, 2), (EVENTS, 2, 1)]
    assert count(two[0], "waiting") == 0


@pytest.mark.parametrize("other", [requested(7), a_commit(0)], ids=["another request", "the first batch"])
def test_labels_of_requests_follow_other_commits_where_nothing_is_read_yet(two: tuple[Lake, Lake], other: Commit):
    overlapping(requested(7), other, two)
    assert two[0].commit(requested(8))
    assert two[0].offsets() == {(r.topic, r.partition): r.next for r in other.ranges}
    overlapping(requested(9), requested(9), two)


_together: Any = None


def _meet(barrier: Any) -> None:
    global _together  # noqa: PLW0603  # a barrier cannot be passed any later
    _together = barrier


def _write_own_partition(settings: Settings, partition: int, batches: int) -> tuple[int, Counter[str]]:
    """A machine that judges the same pairs as the other one, at the same time."""
    outcomes: Counter[str] = Counter()
    _together.wait(TIMEOUT)
    writer = _opened(settings)
    for number in range(batches):
        labels = label_rows(2 * number, 2 * number + 1)
        receipt = PERSISTENT(writer.commit, a_commit(2 * number, 2, partition, {"labels": labels}))
        outcomes["duplicates"] += receipt.duplicates
    _together.wait(TIMEOUT)
    with writer._store.reader() as reader:
        outcomes["known"] = sum(reader.has_label(f"{key:032x}") for key in range(2 * batches))
    writer.close()
    return partition, outcomes


def _race_for_partitions(settings: Settings, partitions: int) -> Counter[str]:
    """A consumer that believes that every partition is its own."""
    outcomes: Counter[str] = Counter()
    writer = _opened(settings)
    for partition in range(partitions):
        for offset in (0, 1):
            _together.wait(TIMEOUT)
            try:
                PERSISTENT(writer.commit, a_commit(offset, 1, partition))
                outcomes["won"] += 1
            except StaleBatch:
                outcomes["stale"] += 1
    writer.close()
    return outcomes


def _opened(settings: Settings) -> LakeWriter:
    return PERSISTENT(LakeWriter, settings)  # the other one may be making the tables


def two_processes() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(2, context, _meet, (context.Barrier(2),))


def test_two_writers_on_different_partitions_both_get_all_in_and_double_no_label(machine: MakeSettings):
    batches = 8
    with two_processes() as pool:
        running = [pool.submit(_write_own_partition, machine(f"m{part}"), part, batches) for part in (0, 1)]
        results = dict(one.result(120) for one in running)
    with Lake(machine("reader").lake, read_only=True) as lake:
        assert lake.offsets() == {(EVENTS, 0): 2 * batches, (EVENTS, 1): 2 * batches}
        keys = [key for (key,) in lake.query("SELECT label_key FROM labels")]
        totals = lake.totals()
    assert sorted(keys) == [f"{key:032x}" for key in range(2 * batches)]
    assert (totals["labelled"], totals["cached"], totals["records"]) == (2 * batches, 2 * batches, 4 * batches)
    assert sum(found["duplicates"] for found in results.values()) == 2 * batches


def test_of_two_processes_that_race_for_new_partitions_one_wins_each(machine: MakeSettings):
    LakeWriter(machine("first")).close()
    with two_processes() as pool:
        running = [pool.submit(_race_for_partitions, machine(name), 4) for name in "ab"]
        outcomes = sum((one.result(120) for one in running), Counter[str]())
    with Lake(machine("reader").lake, read_only=True) as lake:
        assert sorted(lake.query("SELECT * FROM offsets")) == [(EVENTS, partition, 2) for partition in range(4)]
        assert count(lake, "queries") == 8
    assert outcomes == {"won": 8, "stale": 8}


def test_readers_see_whole_batches_while_two_write_and_one_compacts(machine: MakeSettings):
    settings, done, seen = machine("a").lake, threading.Event(), []
    Lake(settings).close()

    def write(partition: int) -> None:
        writer = LakeWriter(machine(f"m{partition}"))
        for number in range(5):
            PERSISTENT(writer.commit, a_commit(10 * number, 10, partition))
        writer.close()

    def look_after() -> None:
        with Lake(settings) as lake:
            while not done.is_set():
                try:
                    list(compact(lake, 30))
                except LakeBusy:  # the writers have won every race: their right
                    continue

    writers = [threading.Thread(target=write, args=(partition,)) for partition in (0, 1)]
    keeper = threading.Thread(target=look_after)
    with Lake(settings, read_only=True) as reader:
        for thread in (*writers, keeper):
            thread.start()
        while any(writer.is_alive() for writer in writers):
            [row] = reader.query("SELECT (SELECT count(*) FROM queries), (SELECT sum(next_offset) FROM offsets)")
            seen.append((row[0], row[1] or 0))
        done.set()
        for thread in (*writers, keeper):
            thread.join()
        assert reader.offsets() == {(EVENTS, 0): 50, (EVENTS, 1): 50}
        assert count(reader, "queries") == 100
    assert all(rows == offset for rows, offset in seen)
    assert seen == sorted(seen)


def test_a_server_that_crashes_costs_a_retry_and_nothing_else(server: PostgresServer, machine: MakeSettings):
    writer, commit = LakeWriter(machine("a")), a_commit(1, tables={"labels": label_rows(1, 2)})
    writer.commit(a_commit(0))
    server.kill()
    with pytest.raises(LakeUnavailable):
        writer.commit(commit)
    server.start()
    assert not writer.commit(commit).repeated
    assert writer.commit(commit).repeated
    assert writer.offsets() == {(EVENTS, 0): 2}
    assert (count(writer._lake, "labels"), writer.totals()["labelled"]) == (2, 2)
    writer.close()


def test_a_server_that_crashes_during_a_commit_costs_a_retry(
    server: PostgresServer, two: tuple[Lake, Lake], monkeypatch: pytest.MonkeyPatch
):
    lake, reader = two
    lake.commit(a_commit(0))
    commit, execute = a_commit(1, tables={"labels": label_rows(1, 2)}), lake.execute

    def crash_before_the_end(statement: str, parameters: list[Any] | None = None) -> Any:
        if statement == "COMMIT":
            server.kill()
        return execute(statement, parameters)

    monkeypatch.setattr(lake, "execute", crash_before_the_end)
    with pytest.raises(LakeUnavailable):
        lake.commit(commit)
    monkeypatch.undo()
    server.start()
    assert [lake.commit(commit), lake.commit(commit)] == [True, False]
    assert count(reader, "labels") == 2
