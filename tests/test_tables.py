from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import cycle, islice
from typing import Any

import pyarrow as pa
import pytest
from lakes import lake_settings

from labelstream.schemas.tables import TABLES, Table
from labelstream.streaming.commit import rows
from labelstream.streaming.lake import Lake

TEXTS = (
    "sofa",
    "a\x00b",
    "😀 é\u0301",
    "שלום \u202e سرير",
    "",
    "it's \"so\" \\ [x], {'a': 1}\n\r\t",
    "NULL",
    "1e5",
    "\ufeff",
)
BYTES = (b"", b"\x00\xff\xfe", b"'\\x00", bytes(range(256)), "é".encode(), b"NULL", b"\xed\xa0\x80")
LONG = ("x" * 200_000, b"\x80\x00" * 100_000)
EXAMPLES: dict[pa.DataType, tuple[Any, ...]] = {
    pa.string(): TEXTS,
    pa.binary(): BYTES,
    pa.bool_(): (True, False),
    pa.int32(): (0, -1, 2**31 - 1, -(2**31)),
    pa.int64(): (0, -1, 2**63 - 1, -(2**63)),
    pa.float32(): (0.0, -0.5, 1.5, 2.0**100),
    pa.float64(): (0.1, -0.0, 1e-300, 1.7976931348623157e308),
    pa.date32(): (date(1995, 1, 1), date(2026, 12, 31)),
    pa.timestamp("us", tz="UTC"): (datetime(1995, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, 23, 59, 59, 999_999, UTC)),
}


def values(kind: pa.DataType) -> tuple[Any, ...]:
    """Examples of a type, odd ones among them."""
    if pa.types.is_map(kind):  # its keys are our own texts, without NUL: see ``Sorted.ignore``
        return ([], [(text, 7) for text in TEXTS if "\0" not in text])
    if pa.types.is_list(kind):
        return ([], *([value] for value in values(kind.value_type)), list(values(kind.value_type)))
    if pa.types.is_struct(kind):
        columns = [cycle(values(field.type)) for field in kind]
        return tuple(
            {field.name: next(column) for field, column in zip(kind, columns, strict=True)} for _ in range(len(TEXTS))
        )
    return EXAMPLES[kind]


def example_rows(table: Table, number: int, skip: int = 0) -> list[dict[str, Any]]:
    columns: list[Iterator[Any]] = [cycle(values(f.type) + ((None,) if f.nullable else ())) for f in table.schema]
    made = zip(*columns, strict=True)
    return [dict(zip(table.schema.names, row, strict=True)) for row in islice(made, skip, skip + number)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with Lake(lake_settings(tmp_path_factory.mktemp("tables"))) as lake:
        yield lake


def round_trip(lake: Lake, table: Table, records: list[dict[str, Any]]) -> pa.Table:
    lake.execute("BEGIN")
    with lake._registered("batch", rows(table, records)):
        lake.execute(f'INSERT INTO "{table.name}" BY NAME SELECT * FROM batch')
    lake.execute("COMMIT")  # where inlined rows are written
    back: pa.Table = lake.execute(f'SELECT * FROM "{table.name}"').to_arrow_table()
    lake.execute(f'DELETE FROM "{table.name}"')
    return back


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """Equal but for the order, which DuckDB does not keep across partitions."""
    return sorted(one, key=lambda row: repr(sorted(row.items()))) == sorted(
        other, key=lambda row: repr(sorted(row.items()))
    )


@pytest.mark.parametrize("number", [1, 7, 1200], ids=["one", "inlined", "file"])
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_rows_come_back_as_they_went(lake: Lake, table: Table, number: int):
    for skip in range(20 if number == 1 else 1):
        records = example_rows(table, number, skip)
        back = round_trip(lake, table, records)
        assert same(back.to_pylist(), rows(table, records).to_pylist())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_very_long_values_come_back_whole(lake: Lake, table: Table):
    [record] = example_rows(table, 1)
    for field in table.schema:
        if field.type in (pa.string(), pa.binary()):
            record[field.name] = LONG[field.type == pa.binary()]
    assert round_trip(lake, table, [record]).to_pylist() == rows(table, [record]).to_pylist()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_types_come_back_too(lake: Lake, table: Table):
    back = round_trip(lake, table, example_rows(table, 3))
    back.cast(table.schema)  # raises where a type or a name is another one
    flat = {field.name: field.type for field in table.schema if not pa.types.is_nested(field.type)}
    assert {name: back.schema.field(name).type for name in flat} == flat


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_required_column_refuses_null(lake: Lake, table: Table):
    from labelstream.schemas.errors import SettingsError

    [record] = example_rows(table, 1)
    required = next(field.name for field in table.schema if not field.nullable)
    with pytest.raises(SettingsError, match="NOT NULL"):
        round_trip(lake, table, [record | {required: None}])
    lake._roll_back()


def test_a_day_of_labels_is_a_partition(lake: Lake):
    table = next(table for table in TABLES if table.name == "labels")
    [record] = example_rows(table, 1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    records = [record | {"judged_at": start + timedelta(hours=hour)} for hour in range(48)]
    with lake._registered("batch", rows(table, records)):
        lake.execute("INSERT INTO labels BY NAME SELECT * FROM batch")
    files = lake.query("SELECT data_file FROM ducklake_list_files('lake', 'labels')")
    assert sorted({name.partition("year=")[2].rpartition("/")[0] for (name,) in files}) == [
        "2026/month=1/day=1",
        "2026/month=1/day=2",
    ]
    lake.execute("DELETE FROM labels")
