from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lakes import (
    EVENTS,
    a_commit,
    consumed_rows,
    count,
    label_rows,
    lake_settings,
    product_rows,
    query_rows,
    waiting_rows,
)
from patience import TIMEOUT

from labelstream.schemas.errors import LakeBusy, LakeUnavailable, SettingsError, StaleBatch, TransientError
from labelstream.schemas.product import Product
from labelstream.schemas.settings import LakeSettings
from labelstream.schemas.tables import TABLES
from labelstream.streaming.commit import Commit
from labelstream.streaming.ducklake import as_lake_error
from labelstream.streaming.lake import Lake
from labelstream.streaming.views import VIEWS
from labelstream.streaming.waiting_rows import resolvable_rows


@pytest.fixture
def settings(tmp_path: Path) -> LakeSettings:
    return lake_settings(tmp_path, busy_timeout_ms=200)


@pytest.fixture
def lake(settings: LakeSettings) -> Iterator[Lake]:
    with Lake(settings) as lake:
        yield lake


def commit_patiently(lake: Lake, commit: Commit, tries: int = 200) -> bool:
    for _ in range(tries):
        try:
            return lake.commit(commit)
        except LakeBusy:
            continue
    raise AssertionError("busy for ever")


def test_a_new_lake_has_all_tables_and_views_and_no_rows(lake: Lake):
    assert lake.offsets() == {}
    assert [count(lake, table.name) for table in TABLES] == [0] * len(TABLES)
    assert [count(lake, view) for view in VIEWS] == [0] * len(VIEWS)
    assert set(lake.totals().values()) == {0}


def test_opening_again_changes_nothing(settings: LakeSettings, lake: Lake):
    lake.commit(a_commit(0))
    before = (lake.identity, lake.snapshot)
    with Lake(settings) as again:
        assert (again.identity, again.snapshot) == before
        assert count(again, "queries") == 1


def test_options_that_a_crash_left_out_are_set_at_the_next_start(settings: LakeSettings, lake: Lake):
    lake.execute("CALL lake.set_option('data_inlining_row_limit', 3, table_name => 'products')")
    with Lake(settings) as again:
        options = again.query(
            "SELECT scope_entry, value FROM lake.options() WHERE option_name = 'data_inlining_row_limit'"
        )
    assert dict(options) == {f"main.{table.name}": str(table.inline_rows) for table in TABLES}


def test_a_commit_moves_the_offsets(lake: Lake):
    assert lake.commit(a_commit(0, 3))
    assert lake.commit(a_commit(3, 2))
    assert lake.commit(a_commit(7, 1, partition=1))
    assert lake.offsets() == {(EVENTS, 0): 5, (EVENTS, 1): 8}
    assert count(lake, "queries") == 6
    assert lake.totals()["records"] == 6


def test_a_repeated_batch_adds_nothing(lake: Lake):
    commit = a_commit(0, 3)
    assert lake.commit(commit)
    assert not lake.commit(commit)
    assert lake.commit(a_commit(3))
    assert not lake.commit(commit)
    assert count(lake, "queries") == 4


@pytest.mark.parametrize("first", [0, 2, 4, 100])
def test_a_batch_that_does_not_begin_where_the_lake_is_adds_nothing(lake: Lake, first: int):
    lake.commit(a_commit(0, 3))
    with pytest.raises(StaleBatch, match=f"begins at {first}, the lake is at 3"):
        lake.commit(a_commit(first))
    assert (lake.offsets(), count(lake, "queries"), count(lake, "consumed")) == ({(EVENTS, 0): 3}, 3, 1)


def test_one_stale_range_of_several_stops_the_batch(lake: Lake):
    lake.commit(a_commit(0, 3, partition=1))
    good, bad = a_commit(0), a_commit(0, partition=1)
    both = Commit("both", (*good.ranges, *bad.ranges), good.tables)
    with pytest.raises(StaleBatch):
        lake.commit(both)
    assert lake.offsets() == {(EVENTS, 1): 3}


def test_a_failing_insert_in_the_middle_leaves_nothing(lake: Lake):
    tables = {"queries": query_rows("a"), "labels": query_rows("not a label")}
    with pytest.raises(SettingsError):
        lake.commit(a_commit(0, tables=tables))
    assert (lake.offsets(), count(lake, "queries"), count(lake, "consumed")) == ({}, 0, 0)
    assert lake.commit(a_commit(0))


def race(settings: LakeSettings, commits: list[Commit]) -> list[str]:
    """What becomes of commits that as many connections begin at the same moment."""
    start, results = threading.Barrier(len(commits), timeout=TIMEOUT), [""] * len(commits)
    lakes = [Lake(settings) for _ in commits]

    def run(index: int) -> None:
        with lakes[index] as lake:
            start.wait()
            try:
                results[index] = "won" if commit_patiently(lake, commits[index]) else "repeated"
            except StaleBatch:
                results[index] = "stale"

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(commits))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("first", [0, 1], ids=["new partition", "known partition"])
def test_of_two_that_race_for_a_partition_one_wins(settings: LakeSettings, lake: Lake, first: int):
    if first:
        lake.commit(a_commit(0))
    assert sorted(race(settings, [a_commit(first, 2), a_commit(first, 2)])) == ["stale", "won"]
    assert (lake.offsets(), count(lake, "queries")) == ({(EVENTS, 0): first + 2}, first + 2)


@pytest.mark.parametrize("known", [False, True])
def test_two_whose_transactions_overlap_cannot_both_commit(settings: LakeSettings, lake: Lake, known: bool):
    if known:
        lake.commit(a_commit(0))
    mine, other = a_commit(int(known)), a_commit(int(known))
    lake.execute("BEGIN")
    lake._check_fence(mine)
    lake._write(mine)
    with Lake(settings) as second:
        second.commit(other)
    with pytest.raises(LakeBusy):
        lake.execute("COMMIT")
    with pytest.raises(StaleBatch):
        lake.commit(mine)
    assert count(lake, "queries") == 1 + known


def test_the_same_batch_raced_by_two_is_written_once(settings: LakeSettings, lake: Lake):
    commit = a_commit(0, 2)
    assert sorted(race(settings, [commit, commit])) == ["repeated", "won"]
    assert count(lake, "queries") == 2


def test_different_partitions_all_get_in(settings: LakeSettings, lake: Lake):
    assert race(settings, [a_commit(0, partition=p) for p in range(3)]) == ["won"] * 3
    assert lake.offsets() == {(EVENTS, p): 1 for p in range(3)}
    assert count(lake, "queries") == 3


def test_a_reader_beside_a_writer_sees_whole_batches_only(tmp_path: Path, lake: Lake):
    seen: list[tuple[int, int]] = []
    writing = threading.Event()
    with Lake(lake_settings(tmp_path), read_only=True) as reader:  # patient with the writer

        def write() -> None:
            for batch in range(8):
                commit_patiently(lake, a_commit(10 * batch, 10))
            writing.set()

        thread = threading.Thread(target=write)
        thread.start()
        while not writing.is_set() or not seen or seen[-1][0] < 80:
            [row] = reader.query("SELECT (SELECT count(*) FROM queries), (SELECT sum(next_offset) FROM offsets)")
            seen.append((row[0], row[1] or 0))
        thread.join()
    assert all(rows == offset for rows, offset in seen)
    assert seen == sorted(seen)


def test_an_old_snapshot_can_be_read(lake: Lake):
    lake.commit(a_commit(0, 3))
    then = lake.snapshot
    lake.commit(a_commit(3, 50))
    lake.execute("DELETE FROM queries")
    assert lake.query(f"SELECT count(*) FROM queries AT (VERSION => {then})") == [(3,)]
    assert lake.oldest_snapshot <= then < lake.snapshot


@contextmanager
def locked_by_another_process(settings: LakeSettings) -> Iterator[None]:
    script = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], isolation_level=None).execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, settings.catalog.removeprefix("sqlite:")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        yield
        holder.stdin.close()


def test_a_locked_catalogue_is_busy_and_then_works(settings: LakeSettings, lake: Lake):
    commit = a_commit(0)
    with locked_by_another_process(settings):
        with pytest.raises(LakeBusy, match="locked"):
            lake.commit(commit)
        assert count(lake, "queries") == 0
    assert lake.commit(commit)
    assert count(lake, "queries") == 1


def test_a_read_only_lake_must_exist(settings: LakeSettings):
    with pytest.raises(SettingsError, match="labelstream run"):
        Lake(settings, read_only=True)


def test_a_folder_that_cannot_be_made_names_its_setting(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"LABELSTREAM_LAKE_DATA_PATH.*File exists"):
        Lake(lake_settings(tmp_path / "file"))


def test_a_read_only_lake_refuses_writes(settings: LakeSettings, lake: Lake):
    lake.commit(a_commit(0))
    with Lake(settings, read_only=True) as reader, pytest.raises(SettingsError, match="read-only"):
        reader.commit(a_commit(1))


def test_two_lakes_are_not_the_same(lake: Lake, tmp_path: Path):
    with Lake(lake_settings(tmp_path / "other")) as other:
        assert lake.identity != other.identity


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("database is locked", LakeBusy),
        ("Transaction conflict - attempting to delete", LakeBusy),
        ("No space left on device", LakeUnavailable),
        ("could not connect to server", LakeUnavailable),
        ("SSL connection has been closed unexpectedly", LakeUnavailable),
        ("SSL error: unexpected eof while reading", LakeUnavailable),
        ("SSL error: certificate verify failed", SettingsError),
        ("cannot execute UPDATE in a read-only transaction", LakeUnavailable),
        ('Failed to commit: Failed to execute query "ROLLBACK": ', LakeUnavailable),
        ('Failed to execute query "UPDATE a;\nUPDATE b": ERROR:  deadlock detected', LakeBusy),
        ("Failed to execute query \"VALUES ('timed out, busy')\": ERROR: no such column", SettingsError),
        ("Catalog Error: no such table", SettingsError),
    ],
)
def test_duckdbs_errors_are_sorted_by_what_they_say(text: str, kind: type[Exception]):
    import duckdb

    error = as_lake_error(duckdb.Error(text))
    assert type(error) is kind
    assert isinstance(error, TransientError) == (kind is not SettingsError)


def test_an_upsert_replaces_and_a_tombstone_deletes(lake: Lake):
    sofa, chair = (Product(product_id=name, title=name) for name in ("sofa", "chair"))
    lake.commit(a_commit(0, tables={"products": product_rows(sofa, chair)}))
    new = Product(product_id="sofa", title="better sofa")
    lake.commit(a_commit(1, tables={"products": product_rows(new)}, deleted_products=["chair"]))
    assert lake.query("SELECT product_id, title FROM products") == [("sofa", "better sofa")]


class TestWaiting:
    """Events that wait for their product or their query."""

    @pytest.fixture(autouse=True)
    def waiting(self, lake: Lake) -> None:
        tables = {"waiting": waiting_rows(0, "sofa", "ean-1", "unknown")}
        lake.commit(a_commit(0, 3, tables=tables))

    def arrive(self, lake: Lake) -> None:
        sofa = Product(product_id="sofa", title="Sofa", alternative_ids=["ean-1", "sofa"])
        tables = {"products": product_rows(sofa), "queries": query_rows("q", text="red sofa")}
        lake.commit(a_commit(3, 2, tables=tables))

    def resolve(self, lake: Lake, *offsets: int) -> bool:
        resolved = [(EVENTS, 0, offset) for offset in offsets]
        commit_id = uuid.uuid4().hex
        return lake.commit(Commit(commit_id, (), {"consumed": consumed_rows(commit_id, ())}, resolved=resolved))

    def test_nothing_can_be_resolved_before_both_are_there(self, lake: Lake):
        assert resolvable_rows(lake, 10) == []
        lake.commit(a_commit(3, tables={"queries": query_rows("q")}))
        assert resolvable_rows(lake, 10) == []

    def test_what_has_come_can_be_resolved_once_each_and_in_order(self, lake: Lake):
        self.arrive(lake)
        found = resolvable_rows(lake, 10)
        assert [(row["offset"], row["product_id"], row["user_query"]) for row in found] == [
            (0, "sofa", "red sofa"),
            (1, "sofa", "red sofa"),
        ]
        assert [row["offset"] for row in resolvable_rows(lake, 1)] == [0]

    def test_what_is_resolved_waits_no_longer(self, lake: Lake):
        self.arrive(lake)
        assert self.resolve(lake, 0, 1)
        assert lake.query('SELECT "offset" FROM waiting') == [(2,)]
        assert resolvable_rows(lake, 10) == []

    def test_nobody_resolves_an_event_twice(self, lake: Lake):
        self.resolve(lake, 0)
        with pytest.raises(StaleBatch, match="1 of 2"):
            self.resolve(lake, 0, 1)
        assert count(lake, "waiting") == 2


def test_the_newest_label_of_a_pair_is_the_latest(lake: Lake):
    tables = {"labels": label_rows(1, 2), "products": product_rows(Product(product_id="p", title="Sofa"))}
    lake.commit(a_commit(0, 3, tables=tables))
    assert count(lake, "labels") == 2
    assert count(lake, "labels_latest") == 1
    assert lake.query("SELECT query, title, level, clicks FROM labelled_pairs") == [("red sofa", "Sofa", "high", None)]


# Rows are computed while they are fetched: the first ones are there before the error is.
LATE_ERROR = "SELECT CASE WHEN i = 3000000 THEN error('the storage timed out') ELSE i END FROM range(4000000) t(i)"


@pytest.mark.parametrize("read", [Lake.query, lambda lake, statement: list(lake.arrow_batches(statement))])
def test_an_error_in_the_middle_of_a_result_is_one_of_ours(lake: Lake, read: Callable[[Lake, str], object]):
    with pytest.raises(LakeUnavailable, match="timed out"):
        read(lake, LATE_ERROR)


def test_options_that_duckdb_refuses_are_an_error_of_ours(tmp_path: Path):
    with Lake(lake_settings(tmp_path)):
        pass
    with pytest.raises(SettingsError, match="Memory must have a number"):
        Lake(lake_settings(tmp_path).model_copy(update={"memory_limit": "much"}), read_only=True)
