"""labelstream sql: ask the lake."""

from __future__ import annotations

import json
import math
import sys
from enum import StrEnum
from typing import Annotated, Any

import duckdb
import typer

from labelstream.console import out, print_table
from labelstream.schemas.errors import SettingsError, TransientError
from labelstream.schemas.settings import Settings
from labelstream.schemas.tables import TABLES


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


def sql(
    statement: Annotated[
        str, typer.Argument(help="One SELECT; leave it out for a list of tables and views.", show_default=False)
    ] = "SELECT table_name AS name, estimated_size AS approximate_rows FROM duckdb_tables() "
    "WHERE database_name = 'lake' AND schema_name = 'main' "
    "UNION ALL SELECT view_name, NULL FROM duckdb_views() WHERE database_name = 'lake' AND schema_name = 'main'",
    output: Annotated[Format, typer.Option("--format", "-f", help="How to print the rows.")] = Format.table,
    limit: Annotated[int, typer.Option(min=1, help="Rows of a table to print at most.")] = 100,
) -> None:
    """Run SQL on the tables, read-only, also while the stream runs. Old snapshots: FROM labels AT (VERSION => n)."""
    from labelstream.streaming.ducklake import connect
    from labelstream.streaming.lake_errors import as_lake_error

    connection = connect(Settings.load().lake, read_only=True)
    try:
        if not connection.extract_statements(statement):
            raise SettingsError("the statement is empty; give one SELECT, or leave it out for a list of the tables")
        result = connection.execute(statement)
        columns = [str(column[0]) for column in result.description or ()]
        if output is Format.table:
            rows = result.fetchmany(limit + 1)
            print_table("", columns, rows[:limit])
            if len(rows) > limit:
                out.print(f"… more than {limit} rows; see --limit")
        else:
            _write(result, columns, output)
    except duckdb.Error as error:
        if isinstance(found := as_lake_error(error), TransientError):
            raise found from error
        names = ", ".join(table.name for table in TABLES)
        raise SettingsError(f"{' '.join(str(error).split())}; the tables are {names}") from error
    finally:
        connection.close()


def _write(result: duckdb.DuckDBPyConnection, columns: list[str], output: Format) -> None:
    import csv

    writer = csv.writer(sys.stdout)
    if output is Format.csv:
        writer.writerow(columns)
    while rows := result.fetchmany(10_000):
        if output is Format.csv:
            writer.writerows(rows)
        else:
            for row in rows:
                sys.stdout.write(
                    json.dumps(dict(zip(columns, map(_as_json, row), strict=True)), default=_as_text) + "\n"
                )


def _as_json(value: Any) -> Any:
    """JSON knows neither NaN nor infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_text(value: Any) -> str:
    """What JSON has no form for; the bytes of a dead letter are nearly always text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
