"""The lake: tables, the exactly-once commit, and what readers ask."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import duckdb
import pyarrow as pa

from labelstream.schemas.errors import StaleBatch
from labelstream.schemas.settings import LakeSettings
from labelstream.schemas.tables import CONSUMED, OFFSETS, PRODUCTS, TABLES, WAITING, columns_sql
from labelstream.streaming.commit import Commit, OffsetRange, rows
from labelstream.streaming.ducklake import as_lake_error, connect
from labelstream.streaming.views import VIEWS

_WAITING_ROWS_THAT_CAN_BE_RESOLVED = """
    WITH named AS (  -- a product's own id goes before another product's alternative id
        SELECT product_id AS object_id, product_id, 0 AS rank FROM products
        UNION ALL
        SELECT unnest(alternative_ids), product_id, 1 FROM products
    ), alias AS (
        SELECT object_id, arg_min(product_id, rank) AS product_id FROM named GROUP BY object_id
    )
    SELECT w.* REPLACE (coalesce(w.user_query, q.user_query) AS user_query), a.product_id
    FROM waiting w
    JOIN alias a USING (object_id)
    LEFT JOIN (SELECT query_id, any_value(user_query) AS user_query FROM queries GROUP BY ALL) q USING (query_id)
    WHERE coalesce(w.user_query, q.user_query) IS NOT NULL
    ORDER BY w.topic, w.partition, w."offset"
    LIMIT ?
"""


class Lake:
    """One connection to the lake; not for several threads at once.

    Args:
        settings: Where it lives.
        read_only: Only read; the lake must exist.
    """

    def __init__(self, settings: LakeSettings, *, read_only: bool = False) -> None:
        self._settings = settings
        self._connection = connect(settings, read_only=read_only)
        try:
            if not read_only:
                self._create_tables()
                self._set_options()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; the lake itself is unchanged."""
        self._connection.close()

    def _create_tables(self) -> None:
        known = {name for (name,) in self.query("SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'")}
        missing = [table for table in TABLES if table.name not in known]
        if not missing:
            return
        self.execute("BEGIN")
        for table in missing:
            self.execute(f'CREATE TABLE IF NOT EXISTS "{table.name}" ({columns_sql(table)})')
            if table.partition_by:
                self.execute(f'ALTER TABLE "{table.name}" SET PARTITIONED BY ({", ".join(table.partition_by)})')
        for name, body in VIEWS.items():
            self.execute(f'CREATE OR REPLACE VIEW "{name}" AS {body}')
        self.execute("COMMIT")

    def _set_options(self) -> None:
        """Set what is not set yet: DuckLake takes options only for tables that are committed."""
        current = set(self.query("SELECT option_name, scope_entry, value FROM lake.options()"))
        for table in TABLES:
            if ("data_inlining_row_limit", f"main.{table.name}", str(table.inline_rows)) not in current:
                rows = f"{table.inline_rows}, table_name => '{table.name}'"
                self.execute(f"CALL lake.set_option('data_inlining_row_limit', {rows})")
        if ("parquet_compression", None, "zstd") not in current:
            self.execute("CALL lake.set_option('parquet_compression', 'zstd')")

    def execute(self, statement: str, parameters: list[Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Run one statement.

        Raises:
            TransientError: Locked, lost a race, or storage trouble.
            SettingsError: Anything else that DuckDB refuses.
        """
        try:
            return self._connection.execute(statement, parameters)
        except duckdb.Error as error:
            raise as_lake_error(error) from error

    def query(self, statement: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""
        return self.execute(statement, parameters).fetchall()

    def arrow_batches(self, statement: str, parameters: list[Any] | None = None) -> Iterator[pa.RecordBatch]:
        """A SELECT's result, a bounded number of rows at a time."""
        yield from self.execute(statement, parameters).to_arrow_reader(50_000)

    @property
    def snapshot(self) -> int:
        """The newest snapshot id."""
        return int(self.query("SELECT id FROM lake.current_snapshot()")[0][0])

    @property
    def oldest_snapshot(self) -> int:
        """The oldest snapshot that has not been expired."""
        return int(self.query("SELECT min(snapshot_id) FROM ducklake_snapshots('lake')")[0][0])

    @property
    def identity(self) -> str:
        """Tells this lake from every other one, also from one made anew in the same place."""
        statement = "SELECT table_uuid FROM ducklake_table_info('lake') WHERE table_name = 'consumed'"
        return str(self.query(statement)[0][0])

    def offsets(self) -> dict[tuple[str, int], int]:
        """The next offset to consume of each (topic, partition)."""
        return {(topic, partition): offset for topic, partition, offset in self.query("SELECT * FROM offsets")}

    def commit(self, commit: Commit) -> bool:
        """Append a batch and move its offsets, in one transaction.

        The offsets are the fence: a batch is taken only if each of its ranges begins exactly where the lake
        left off, so a consumer that lost its partition, and has not noticed, cannot double a row.

        Returns:
            False if this very batch had been committed before (the answer was lost, and it came again).

        Raises:
            StaleBatch: Another batch has moved these offsets; read on from the lake.
            TransientError: Nothing was written, try again.
        """
        self.execute("BEGIN")
        try:
            self._check_fence(commit)
            self._write(commit)
            self.execute("COMMIT")
        except StaleBatch:
            repeated = self._is_repeated(commit)
            self._roll_back()
            if not repeated:
                raise
            return False
        except BaseException:
            self._roll_back()
            raise
        return True

    def _roll_back(self) -> None:
        with contextlib.suppress(duckdb.Error):  # a COMMIT that failed has ended the transaction already
            self._connection.execute("ROLLBACK")

    def _is_repeated(self, commit: Commit) -> bool:
        found = self.query("SELECT 1 FROM consumed WHERE batch_id = ? LIMIT 1", [commit.batch_id])
        return bool(found)

    def _check_fence(self, commit: Commit) -> None:
        current = self.offsets()
        for topic, partition, first, _ in commit.ranges:
            at = current.get((topic, partition))
            if at is not None and at != first:
                raise StaleBatch(f"{topic}-{partition}: the batch begins at {first}, the lake is at {at}")
        if commit.resolved:
            self._check_still_waiting(commit)

    def _check_still_waiting(self, commit: Commit) -> None:
        with self._registered("resolved", _waiting_keys(commit)):
            [(found,)] = self.query(
                'SELECT count(*) FROM waiting SEMI JOIN resolved USING (topic, "partition", "offset")'
            )
        if found != len(commit.resolved):
            raise StaleBatch(
                f"{len(commit.resolved) - found} of {len(commit.resolved)} waiting events are resolved already"
            )

    def _write(self, commit: Commit) -> None:
        self._delete_replaced_products(commit)
        for name, table in commit.tables.items():
            if table.num_rows:
                with self._registered("batch", table):
                    self.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM batch')
        if commit.resolved:
            with self._registered("resolved", _waiting_keys(commit)):
                self.execute(f"DELETE FROM waiting USING resolved WHERE {_same_row('waiting', 'resolved')}")
        if commit.ranges:
            self._move_offsets(commit.ranges)

    def _delete_replaced_products(self, commit: Commit) -> None:
        upserts = commit.tables.get(PRODUCTS.name)
        replaced = [] if upserts is None else upserts.column("product_id").to_pylist()
        gone = [*replaced, *commit.deleted_products]
        if gone:
            self.execute("DELETE FROM products WHERE product_id IN (SELECT unnest(?))", [gone])

    def _move_offsets(self, ranges: Sequence[OffsetRange]) -> None:
        reached = [{"topic": r.topic, "partition": r.partition, "next_offset": r.next} for r in ranges]
        # Delete and insert, not insert alone: two writers then touch the same row, and DuckLake lets one win.
        with self._registered("moved", rows(OFFSETS, reached)):
            same = 'offsets.topic = moved.topic AND offsets."partition" = moved."partition"'
            self.execute(f"DELETE FROM offsets USING moved WHERE {same}")
            self.execute("INSERT INTO offsets SELECT * FROM moved")

    def _registered(self, name: str, table: pa.Table) -> _Registered:
        return _Registered(self._connection, name, table)

    def resolvable(self, limit: int) -> list[dict[str, Any]]:
        """Waiting events whose product and query text are both known by now, oldest first."""
        cursor = self.execute(_WAITING_ROWS_THAT_CAN_BE_RESOLVED, [limit])
        found: list[dict[str, Any]] = cursor.to_arrow_table().to_pylist()
        return found

    def totals(self) -> dict[str, int]:
        """Sum of every count of the ``consumed`` table."""
        names = [
            field.name for field in CONSUMED.schema if field.type == pa.int64() and not field.name.endswith("offset")
        ]
        columns = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in names)
        return dict(zip(names, self.query(f"SELECT {columns} FROM consumed")[0], strict=True))


class _Registered:
    """An Arrow table that DuckDB can see under a name for a moment."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
        self._connection, self._name, self._table = connection, name, table

    def __enter__(self) -> None:
        self._connection.register(self._name, self._table)

    def __exit__(self, *_: object) -> None:
        self._connection.unregister(self._name)


def _waiting_keys(commit: Commit) -> pa.Table:
    fields = [WAITING.schema.field(name) for name in ("topic", "partition", "offset")]
    columns = list(zip(*commit.resolved, strict=True))
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)], schema=pa.schema(fields))


def _same_row(left: str, right: str) -> str:
    return " AND ".join(f'{left}."{name}" = {right}."{name}"' for name in ("topic", "partition", "offset"))
