from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lakes import a_commit, count, label_rows, lake_settings, product_rows

from labelstream.schemas.errors import LakeBusy
from labelstream.schemas.product import Product
from labelstream.schemas.settings import LakeSettings
from labelstream.schemas.tables import TABLES
from labelstream.streaming.lake import Lake
from labelstream.streaming.layout import SORTED_ROW_GROUP, lay_out
from labelstream.streaming.maintenance import compact

MANY_LABELS = """
    SELECT md5(i::VARCHAR) AS label_key, 'query ' || (hash(i + ?) % 500) AS query, 'p' AS product_id,
           'h' AS product_hash,
           [0.5, 0.5]::FLOAT[] AS probabilities, 'high' AS level, 0.5 AS expected_score, 0.5 AS polarized_score,
           1.0 AS temperature, false AS shortened, 'm' AS model_version, 'p' AS prompt_version, 's' AS scale_version,
           '2026-03-04'::TIMESTAMPTZ AS judged_at
    FROM range(10000) t(i)
"""
MANY = 20  # rows of one insert: more than stay in the catalogue


@pytest.fixture
def settings(tmp_path: Path) -> LakeSettings:
    return lake_settings(tmp_path)


@pytest.fixture
def lake(settings: LakeSettings) -> Iterator[Lake]:
    with Lake(settings) as lake:
        yield lake


def batch(number: int) -> object:
    keys = range(number * MANY, (number + 1) * MANY)
    products = product_rows(Product(product_id=f"p{number % 4}", title=f"Sofa {number}"))
    return a_commit(number, tables={"labels": label_rows(*keys), "products": products})


def files(lake: Lake, table: str) -> int:
    return len(lake.query(f"SELECT data_file FROM ducklake_list_files('lake', '{table}')"))


def contents(lake: Lake) -> dict[str, list[str]]:
    return {table.name: sorted(map(repr, lake.query(f'SELECT * FROM "{table.name}"'))) for table in TABLES}


@pytest.mark.parametrize("keep_days", [30, 0])
def test_compaction_keeps_every_row_in_fewer_files(lake: Lake, keep_days: float):
    for number in range(12):
        lake.commit(batch(number))
    before, many, then = contents(lake), files(lake, "labels"), lake.snapshot
    steps = list(compact(lake, keep_days))
    assert len(steps) == 5
    assert contents(lake) == before
    assert files(lake, "labels") < many
    if keep_days:
        assert lake.query(f"SELECT count(*) FROM labels AT (VERSION => {then - 1})") == [(11 * MANY,)]
    else:
        assert lake.oldest_snapshot >= then


@pytest.mark.parametrize("sorted_before", [True, False])
def test_a_compacted_day_is_sorted_by_query_in_small_row_groups(lake: Lake, sorted_before: bool):
    if not sorted_before:  # a lake of an older version
        lake.execute("ALTER TABLE labels RESET SORTED BY")
    rng = random.Random(1)
    for _ in range(3):
        lake.execute(f"INSERT INTO labels BY NAME {MANY_LABELS}", [rng.random()])
    lay_out(lake)
    list(compact(lake, 0))
    [(file,)] = lake.query("SELECT data_file FROM ducklake_list_files('lake', 'labels')")
    queries = [query for (query,) in lake.query("SELECT query FROM read_parquet(?)", [file])]
    assert len(queries) == 3 * 10_000
    assert queries == sorted(queries)
    groups = lake.query("SELECT DISTINCT row_group_id, row_group_num_rows FROM parquet_metadata(?)", [file])
    assert max(rows for _, rows in groups) <= SORTED_ROW_GROUP


def test_a_compacted_lake_goes_on(lake: Lake):
    lake.commit(batch(0))
    list(compact(lake, 0))
    lake.commit(batch(1))
    list(compact(lake, 0))
    assert (count(lake, "labels"), count(lake, "products")) == (2 * MANY, 2)


def test_an_empty_lake_can_be_compacted(lake: Lake):
    assert next(compact(lake, 30)).name == "rows from the catalogue into files"


def test_compaction_runs_beside_a_writer(settings: LakeSettings, lake: Lake):
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(10):
                commit_patiently(lake, number)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    with Lake(settings) as other:
        thread.start()
        while thread.is_alive():
            try:
                list(compact(other, 30))
            except LakeBusy:  # the stream has won every race: its right
                continue
        thread.join()
    assert failures == []
    assert count(lake, "labels") == 10 * MANY
    assert lake.totals()["labelled"] == 10 * MANY


def commit_patiently(lake: Lake, number: int) -> None:
    commit = batch(number)
    for _ in range(300):
        try:
            lake.commit(commit)
        except LakeBusy:
            continue
        return
    raise AssertionError("busy for ever")
