from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lakes import (
    EVENTS,
    MOMENT,
    a_commit,
    all_settings,
    count,
    label_rows,
    lake_settings,
    product_rows,
    query_rows,
    requested,
)

from labelstream.schemas.errors import SettingsError, StaleBatch
from labelstream.schemas.product import Product
from labelstream.schemas.settings import Settings, StoreSettings
from labelstream.streaming import follow as follow_module
from labelstream.streaming.commit import Commit
from labelstream.streaming.known_label import KnownLabel
from labelstream.streaming.lake import Lake
from labelstream.streaming.writer import LakeWriter


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return all_settings(tmp_path)


@pytest.fixture
def writer(settings: Settings) -> Iterator[LakeWriter]:
    writer = LakeWriter(settings)
    yield writer
    writer.close()


def has_labels(writer: LakeWriter, *keys: int) -> list[bool]:
    with writer._store.reader() as reader:
        return [reader.has_label(f"{key:032x}") for key in keys]


def test_a_commit_is_in_the_lake_and_in_the_store(writer: LakeWriter):
    receipt = writer.commit(a_commit(0, tables={"labels": label_rows(1)}))
    assert receipt == (writer.snapshot, False, 0)
    assert writer.offsets() == {(EVENTS, 0): 1}
    assert has_labels(writer, 1, 2) == [True, False]


def test_labels_that_another_replica_wrote_first_are_left_out_and_count_as_cached(writer: LakeWriter):
    writer.commit(a_commit(0, 2, tables={"labels": label_rows(1, 2)}))
    receipt = writer.commit(a_commit(0, 3, partition=1, tables={"labels": label_rows(2, 3, 1)}))
    assert receipt.duplicates == 2
    assert count(writer._lake, "labels") == 3
    totals = writer.totals()
    assert (totals["labelled"], totals["cached"], totals["records"]) == (3, 2, 5)


@pytest.mark.parametrize("before", [None, requested(0), a_commit(0)], ids=["a new lake", "requests", "a batch"])
def test_two_writers_that_keep_the_same_label_at_once_write_it_once(tmp_path: Path, before: Commit | None):
    first, second = (LakeWriter(all_settings(tmp_path / name, lake=lake_settings(tmp_path))) for name in "ab")
    if before is not None:
        first.commit(before)
    known, others = first._duplicates, [requested(1)]

    def meanwhile(commit: Commit) -> set[int]:
        duplicates = known(commit)
        while others:
            second.commit(others.pop())
        return duplicates

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first, "_duplicates", meanwhile)
        first.commit(requested(1))
    assert first._lake.query("SELECT count(*) FROM labels WHERE label_key = ?", [f"{1:032x}"]) == [(1,)]
    first.close()
    second.close()


def test_a_batch_of_nothing_but_duplicates_is_committed_without_labels(writer: LakeWriter):
    writer.commit(a_commit(0, tables={"labels": label_rows(1)}))
    assert writer.commit(a_commit(1, tables={"labels": label_rows(1)})).duplicates == 1
    assert (count(writer._lake, "labels"), writer.totals()["cached"]) == (1, 1)


def test_a_repeated_commit_is_answered_and_adds_nothing(writer: LakeWriter):
    commit = a_commit(0, tables={"labels": label_rows(1)})
    writer.commit(commit)
    assert writer.commit(commit) == (writer.snapshot, True, 0)
    assert (count(writer._lake, "labels"), writer.totals()["cached"]) == (1, 0)


def test_a_stale_batch_is_refused(writer: LakeWriter):
    writer.commit(a_commit(0, 5))
    with pytest.raises(StaleBatch):
        writer.commit(a_commit(2))


def test_a_crash_between_lake_and_store_is_mended_at_the_next_start(settings: Settings):
    writer = LakeWriter(settings)
    writer._lake.commit(a_commit(0, tables={"labels": label_rows(1)}))
    assert has_labels(writer, 1) == [False]
    writer.close()
    writer = LakeWriter(settings)
    assert has_labels(writer, 1) == [True]
    writer.close()


def test_a_store_that_failed_once_misses_nothing(writer: LakeWriter, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise SettingsError("the local store is full")

    first = a_commit(0, tables={"labels": label_rows(1), "queries": query_rows("q")})
    with monkeypatch.context() as patch:
        patch.setattr(follow_module, "apply_commit", fail)
        with pytest.raises(SettingsError):
            writer.commit(first)
    assert has_labels(writer, 1) == [False]
    writer.commit(a_commit(1, tables={"labels": label_rows(2)}))
    assert has_labels(writer, 1, 2) == [True, True]


def test_a_retry_after_a_store_failure_mends_the_store(writer: LakeWriter):
    commit = a_commit(0, tables={"labels": label_rows(1)})
    writer._lake.commit(commit)
    assert writer.commit(commit).repeated
    assert has_labels(writer, 1) == [True]


def test_what_somebody_else_wrote_is_followed(settings: Settings, writer: LakeWriter):
    with Lake(settings.lake) as other:
        other.commit(a_commit(0, partition=1, tables={"labels": label_rows(1)}))
    writer.commit(a_commit(0, tables={"labels": label_rows(2)}))
    assert has_labels(writer, 1, 2) == [True, True]


def test_a_full_store_names_its_setting(tmp_path: Path):
    store = StoreSettings(path=tmp_path / "store", max_bytes=1 << 20)
    writer = LakeWriter(all_settings(tmp_path, store=store))
    big = Product(product_id="p", title="x", description="word " * 400_000)
    with pytest.raises(SettingsError, match="LABELSTREAM_STORE_MAX_BYTES"):
        writer.commit(a_commit(0, tables={"products": product_rows(big)}))
    writer.close()


def test_a_store_full_of_answers_stops_nobody(tmp_path: Path):
    settings = all_settings(tmp_path, store=StoreSettings(path=tmp_path / "store", max_bytes=1 << 20))
    writer = LakeWriter(settings)
    answer = KnownLabel("0" * 32, (0.25, 0.75), False, MOMENT, 0.5, "v" * 400)
    with writer._store._environment.begin(write=True) as transaction:  # as many as an older version would have kept
        for number in range(1, 1200):
            writer._store._answers.put(transaction, number.to_bytes(16, "big"), answer.encode())
    products = [Product(product_id=f"p{number}", title="x", description="word " * 200) for number in range(300)]
    writer.commit(a_commit(0, tables={"products": product_rows(*products)}))
    writer.close()
    writer = LakeWriter(settings)
    with writer._store.reader() as reader:
        assert reader.counts()["products"] == len(products)
        assert reader.label(f"{1:032x}") is None
    writer.close()
