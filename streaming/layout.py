"""How the tables are made and lie on disk: partitions, order, row groups, and what stays in the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelstream.schemas.tables import ENGAGEMENT, LABELS, TABLES, columns_sql, duckdb_type
from labelstream.streaming.ducklake import CATALOGUE
from labelstream.streaming.views import VIEWS

if TYPE_CHECKING:
    from labelstream.streaming.lake import Lake

# People ask for the products of a query. Files are one a day, so within a day a query's rows lie together, and
# Parquet's smallest and largest value of each row group tell which groups to leave out.
SORTED_BY = {LABELS.name: ("query", "product_id"), ENGAGEMENT.name: ("query", "product_id")}
# A whole row group is read for one row of it. DuckDB's default of 122,880 rows is a third of a busy day.
SORTED_ROW_GROUP = 8192


def create_tables(lake: Lake) -> None:
    """Make what is not there yet, all of it or nothing."""
    known = {name for (name,) in lake.query("SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'")}
    missing = [table for table in TABLES if table.name not in known]
    if not missing:
        _add_columns(lake)
        _renew_views(lake)
        return
    lake.execute("BEGIN")
    for table in missing:
        lake.execute(f'CREATE TABLE IF NOT EXISTS "{table.name}" ({columns_sql(table)})')
        if table.partition_by:
            lake.execute(f'ALTER TABLE "{table.name}" SET PARTITIONED BY ({", ".join(table.partition_by)})')
        if table.name in SORTED_BY:
            lake.execute(sort_statement(table.name))
    for name, body in VIEWS.items():
        lake.execute(f'CREATE OR REPLACE VIEW "{name}" AS {body}')
    lake.execute("COMMIT")


def _add_columns(lake: Lake) -> None:
    """Give a lake of an older version the columns that have been added since; they may all be null."""
    statement = "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'lake'"
    known = set(lake.query(statement))
    for table in TABLES:
        for field in table.schema:
            if (table.name, field.name) not in known:
                lake.execute(f'ALTER TABLE "{table.name}" ADD COLUMN "{field.name}" {duckdb_type(field.type)}')


def _renew_views(lake: Lake) -> None:
    """Give a lake of an older version the views of this one."""
    for name, body in VIEWS.items():
        lake.execute(f"CREATE OR REPLACE TEMP VIEW wanted AS {body}")  # to have it written as DuckDB writes it
        statement = "SELECT DISTINCT regexp_replace(sql, '^.*? AS ', '') FROM duckdb_views() WHERE view_name IN (?, ?)"
        if len(lake.query(statement, [name, "wanted"])) > 1:
            lake.execute(f'CREATE OR REPLACE VIEW "{name}" AS {body}')
    lake.execute("DROP VIEW IF EXISTS temp.wanted")


def lay_out(lake: Lake) -> None:
    """Set what is not set yet: DuckLake takes options only for tables that are committed.

    Files that were written before are sorted when compaction merges them.
    """
    current = set(lake.query("SELECT option_name, scope_entry, value FROM lake.options()"))
    for table in TABLES:
        options = {"data_inlining_row_limit": table.inline_rows}
        if table.name in SORTED_BY:
            options["parquet_row_group_size"] = SORTED_ROW_GROUP
        for name, value in options.items():
            if (name, f"main.{table.name}", str(value)) not in current:
                lake.execute(f"CALL lake.set_option('{name}', {value}, table_name => '{table.name}')")
    if ("parquet_compression", None, "zstd") not in current:
        lake.execute("CALL lake.set_option('parquet_compression', 'zstd')")
    _sort(lake)


def _sort(lake: Lake) -> None:
    statement = f"""
        SELECT table_name, list(expression ORDER BY sort_key_index)
        FROM {CATALOGUE}.ducklake_sort_info s
        JOIN {CATALOGUE}.ducklake_sort_expression USING (sort_id, table_id)
        JOIN {CATALOGUE}.ducklake_table t USING (table_id)
        WHERE s.end_snapshot IS NULL AND t.end_snapshot IS NULL
        GROUP BY ALL
    """
    current = dict(lake.query(statement))
    for table, columns in SORTED_BY.items():
        if current.get(table) != list(columns):
            lake.execute(sort_statement(table))


def sort_statement(table: str) -> str:
    """Have a table of ``SORTED_BY`` sorted from now on."""
    return f'ALTER TABLE "{table}" SET SORTED BY ({", ".join(f"{column} ASC" for column in SORTED_BY[table])})'
