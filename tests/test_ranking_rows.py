from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rankings import NAMES, some_features, some_rows

from labelstream.schemas.errors import SettingsError
from labelstream.training.features import FeatureTable
from labelstream.training.ranking_rows import RankingFile, RankingRows, RankingSet, write_ranking_file


def same(left: RankingSet, right: RankingSet) -> None:
    assert left.names == right.names
    np.testing.assert_array_equal(left.features.values, right.features.values)
    np.testing.assert_array_equal(left.query_numbers, right.query_numbers)
    np.testing.assert_array_equal(left.labels, right.labels)


def joined(rows: RankingRows, size: int = 7) -> RankingSet:
    batches = list(rows.batches(size))
    values = np.concatenate([batch.features.values for batch in batches])
    numbers, labels = (np.concatenate([getattr(b, name) for b in batches]) for name in ("query_numbers", "labels"))
    return RankingSet(FeatureTable(rows.names, values), numbers, labels)


def of_sizes(sizes: list[int]) -> RankingSet:
    rows = sum(sizes)
    return RankingSet(some_features(rows), np.repeat(np.arange(len(sizes)), sizes), np.zeros(rows, np.float32))


def test_rows_of_a_query_are_put_together():
    queries = ["b", "a", "B ", "a", "b"]
    rows = RankingSet.of(some_features(5), queries, np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert rows.query_numbers.tolist() == [0, 0, 0, 1, 1]
    assert rows.labels.tolist() == pytest.approx([0.1, 0.3, 0.5, 0.2, 0.4])
    np.testing.assert_array_equal(rows.features.values, some_features(5).values[[0, 2, 4, 1, 3]])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 20))
def test_batches_are_all_rows_and_never_split_a_query(sizes: list[int], size: int):
    rows = of_sizes(sizes)
    batches = list(rows.batches(size))
    same(joined(rows, size), rows)
    queries = [set(batch.query_numbers.tolist()) for batch in batches]
    assert sum(map(len, queries)) == len(sizes)
    assert all(len(batch) <= size or len(held) == 1 for batch, held in zip(batches, queries, strict=True))


def test_no_rows_make_no_batches():
    assert list(of_sizes([]).batches(3)) == []
    assert of_sizes([]).contested() == 0


def test_only_queries_with_different_labels_count_as_contested():
    labels = np.array([0, 0, 0.5, 0.5, 0.5, 0.25, 1], np.float32)
    rows = RankingSet(some_features(7), np.array([0, 0, 1, 1, 4, 9, 9]), labels)
    assert rows.contested() == 1


@pytest.mark.parametrize("label", [-0.01, 1.01, np.nan, np.inf, 3.0])
def test_a_label_off_the_scale_is_named(label: float):
    with pytest.raises(SettingsError, match=r"label \S+ of row 1 is not in \[0, 1\]; give"):
        RankingSet(some_features(2), np.zeros(2, np.int64), np.array([0.5, label], np.float32))


def test_rows_of_a_query_that_stand_apart_are_refused():
    with pytest.raises(ValueError, match="stand together"):
        RankingSet(some_features(3), np.array([0, 1, 0]), np.zeros(3, np.float32))


@pytest.mark.parametrize(("numbers", "labels"), [(2, 3), (3, 2)])
def test_parts_of_different_lengths_are_refused(numbers: int, labels: int):
    with pytest.raises(ValueError, match="one of each for every row"):
        RankingSet(some_features(3), np.zeros(numbers, np.int64), np.zeros(labels, np.float32))


def test_a_file_holds_the_rows(tmp_path: Path):
    rows = some_rows()
    file = write_ranking_file(tmp_path / "rows.parquet", [rows], rows_per_group=50)
    assert len(file) == len(rows)
    same(joined(file), rows)
    same(joined(RankingFile(file.path), 10_000), rows)
    assert pq.read_metadata(file.path).num_row_groups > 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=4), st.integers(1, 12))
def test_sets_follow_each_other_in_a_file_and_share_no_query(
    tmp_path_factory: pytest.TempPathFactory, sets: list[list[int]], size: int
):
    parts = [of_sizes(sizes) for sizes in sets]
    file = write_ranking_file(tmp_path_factory.mktemp("rows") / "rows.parquet", parts, rows_per_group=size)
    expected = of_sizes([size for sizes in sets for size in sizes])
    found = joined(file, size)
    np.testing.assert_array_equal(found.query_numbers, expected.query_numbers)
    np.testing.assert_array_equal(found.features.values, np.concatenate([part.features.values for part in parts]))


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    write_ranking_file(path, [some_rows()])
    before = path.read_bytes()
    other = RankingSet(
        FeatureTable(("x",), np.zeros((1, 1), np.float32)), np.zeros(1, np.int64), np.zeros(1, np.float32)
    )
    with pytest.raises(SettingsError, match=r"rows of features \['x'\] after \['telling'"):
        write_ranking_file(path, [some_rows(), other])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_rows_is_not_written(tmp_path: Path):
    with pytest.raises(SettingsError, match="no rows to write"):
        write_ranking_file(tmp_path / "rows.parquet", [of_sizes([])])
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_file_is_refused(tmp_path: Path):
    missing, text, other = (tmp_path / name for name in ("missing", "text", "other"))
    text.write_text("query,label\n")
    pq.write_table(pa.table({name: [1.0] for name in NAMES}), other)
    for path, what in ((missing, "no Parquet file"), (text, "no Parquet file"), (other, "not written by")):
        with pytest.raises(SettingsError, match=f"{path.name}: {what}.*; write the rows again"):
            RankingFile(path)
