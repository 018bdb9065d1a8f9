"""The lake's tables: fixed Arrow schemas, and the DuckDB types and partitions that follow from them."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")


class Table(NamedTuple):
    """One table of the lake.

    Attributes:
        name: Table name.
        schema: Columns, their types, and which may be null.
        partition_by: DuckLake partition transforms, or nothing.
        inline_rows: Inserts up to this many rows stay in the catalogue instead of a tiny Parquet file. None of
            the tables with text inside lists, or with whole records: DuckLake writes inlined rows as SQL text,
            and a NUL or a byte that is not UTF-8 inside a list breaks the statement.
    """

    name: str
    schema: pa.Schema
    partition_by: tuple[str, ...] = ()
    inline_rows: int = 10


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_HEADERS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))

LABELS = Table(
    "labels",
    pa.schema(
        [
            _required("label_key", pa.string()),
            _required("query", pa.string()),
            _required("product_id", pa.string()),
            _required("product_hash", pa.string()),
            _required("probabilities", pa.list_(pa.float32())),
            _required("level", pa.string()),
            _required("expected_score", pa.float64()),
            _required("polarized_score", pa.float64()),
            pa.field("polarization_alpha", pa.float64()),
            pa.field("polarization_beta", pa.float64()),
            _required("temperature", pa.float64()),
            _required("shortened", pa.bool_()),
            pa.field("cross_encoder_score", pa.float32()),
            pa.field("cross_encoder_version", pa.string()),
            _required("model_version", pa.string()),
            _required("prompt_version", pa.string()),
            _required("scale_version", pa.string()),
            _required("judged_at", UTC_MICROSECONDS),
            pa.field("request_id", pa.string()),
        ]
    ),
    partition_by=("year(judged_at)", "month(judged_at)", "day(judged_at)"),
)

ENGAGEMENT = Table(
    "engagement",
    pa.schema(
        [
            _required("day", pa.date32()),
            _required("query", pa.string()),
            _required("product_id", pa.string()),
            pa.field("position", pa.int32()),
            _required("impressions", pa.int64()),
            _required("clicks", pa.int64()),
            _required("add_to_carts", pa.int64()),
            _required("purchases", pa.int64()),
        ]
    ),
    partition_by=("year(day)", "month(day)"),
)

QUERIES = Table(
    "queries",
    pa.schema(
        [
            _required("query_id", pa.string()),
            _required("user_query", pa.string()),
            pa.field("client_id", pa.string()),
            pa.field("application", pa.string()),
            _required("occurred_at", UTC_MICROSECONDS),
        ]
    ),
    partition_by=("year(occurred_at)", "month(occurred_at)"),
)

PRODUCTS = Table(
    "products",
    pa.schema(
        [
            _required("product_id", pa.string()),
            _required("product_hash", pa.string()),
            _required("title", pa.string()),
            _required("brand", pa.string()),
            _required("category", pa.string()),
            _required("description", pa.string()),
            _required("attributes", pa.string()),
            pa.field("price", pa.float64()),
            _required("alternative_ids", pa.list_(pa.string())),
            _required("updated_at", UTC_MICROSECONDS),
        ]
    ),
    inline_rows=0,
)

WAITING = Table(
    "waiting",
    pa.schema(
        [
            _required("topic", pa.string()),
            _required("partition", pa.int32()),
            _required("offset", pa.int64()),
            pa.field("query_id", pa.string()),
            pa.field("user_query", pa.string()),
            _required("object_id", pa.string()),
            pa.field("object_id_field", pa.string()),
            pa.field("action", pa.string()),
            pa.field("position", pa.int32()),
            _required("occurred_at", UTC_MICROSECONDS),
            pa.field("key", pa.binary()),
            _required("value", pa.binary()),
            _required("headers", _HEADERS),
            pa.field("timestamp", UTC_MICROSECONDS),
        ]
    ),
    inline_rows=0,
)

DEAD_LETTERS = Table(
    "dead_letters",
    pa.schema(
        [
            _required("topic", pa.string()),
            _required("partition", pa.int32()),
            _required("offset", pa.int64()),
            pa.field("key", pa.binary()),
            pa.field("value", pa.binary()),
            _required("headers", _HEADERS),
            pa.field("timestamp", UTC_MICROSECONDS),
            _required("stage", pa.string()),
            _required("error", pa.string()),
            _required("message", pa.string()),
            _required("field", pa.string()),
            _required("failed_at", UTC_MICROSECONDS),
        ]
    ),
    inline_rows=0,
)

OFFSETS = Table(
    "offsets",
    pa.schema(
        [
            _required("topic", pa.string()),
            _required("partition", pa.int32()),
            _required("next_offset", pa.int64()),
        ]
    ),
    inline_rows=1000,
)

OUTCOMES = ("queries", "products", "labelled", "cached", "waiting", "dead_lettered", "ignored")

CONSUMED = Table(
    "consumed",
    pa.schema(
        [
            _required("batch_id", pa.string()),
            _required("topic", pa.string()),
            _required("partition", pa.int32()),
            _required("first_offset", pa.int64()),
            _required("next_offset", pa.int64()),
            _required("records", pa.int64()),
            *(_required(outcome, pa.int64()) for outcome in OUTCOMES),
            _required("ignored_by_action", pa.map_(pa.string(), pa.int64())),
            _required("committed_at", UTC_MICROSECONDS),
        ]
    ),
    inline_rows=1000,
)

TABLES = (LABELS, ENGAGEMENT, QUERIES, PRODUCTS, WAITING, DEAD_LETTERS, OFFSETS, CONSUMED)

_DUCKDB_TYPES: dict[pa.DataType, str] = {
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    UTC_MICROSECONDS: "TIMESTAMPTZ",
}


def duckdb_type(kind: pa.DataType) -> str:
    """The DuckDB name of an Arrow type."""
    if pa.types.is_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    if pa.types.is_map(kind):
        return f"MAP({duckdb_type(kind.key_type)}, {duckdb_type(kind.item_type)})"
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{f.name}" {duckdb_type(f.type)}' for f in kind) + ")"
    return _DUCKDB_TYPES[kind]


def columns_sql(table: Table) -> str:
    """Column definitions for CREATE TABLE."""
    return ", ".join(
        f'"{field.name}" {duckdb_type(field.type)}{"" if field.nullable else " NOT NULL"}' for field in table.schema
    )
