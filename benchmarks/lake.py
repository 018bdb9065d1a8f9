"""How fast the lake takes labels, and how fast it answers.

    .venv/bin/python benchmarks/lake.py                                   # 500 commits, queries over 10 million labels
    .venv/bin/python benchmarks/lake.py --commits 50 --rows 200000 --files 40    # a quick look

* appends: batches of 1,024 labels through ``Lake.commit`` (rows, counts and offsets in one transaction), against the
  same batches and offsets appended to a plain DuckDB file, one transaction each, in turn; the plain file has no
  snapshots, no second reader while it is written, and no Parquet
* queries: three that people ask, over a table of many small files, before and after ``labelstream compact``; each
  time is the median of several runs on a warm page cache
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
from common import benchmark_parser, keep, show

from labelstream.schemas.settings import LakeSettings
from labelstream.schemas.tables import CONSUMED, LABELS, OFFSETS, OUTCOMES, columns_sql
from labelstream.streaming.commit import Commit, OffsetRange, rows
from labelstream.streaming.lake import Lake
from labelstream.streaming.maintenance import compact

QUERIES = {
    "products of one query": "SELECT product_id, level, expected_score FROM labels_latest WHERE query = 'query 77'",
    "levels by day": "SELECT judged_at::DATE AS day, level, count(*) FROM labels GROUP BY ALL ORDER BY ALL",
    "best 100 of one day": "SELECT query, product_id, expected_score FROM labels "
    "WHERE judged_at >= '2026-01-10' AND judged_at < '2026-01-11' ORDER BY expected_score DESC, label_key LIMIT 100",
}
REPEATS = 5
# Many labels at once, as varied as real ones: what is a hash stays incompressible.
MANY_LABELS = """
    INSERT INTO labels BY NAME
    SELECT md5(i::VARCHAR) AS label_key, 'query ' || (i % $queries) AS query, 'P' || (hash(i) % 100000) AS product_id,
           left(md5((hash(i) % 100000)::VARCHAR), 24) AS product_hash,
           [1 - s, s / 3, s * 2 / 3]::FLOAT[] AS probabilities,
           CASE WHEN s < 0.4 THEN 'irrelevant' WHEN s < 0.7 THEN 'moderate' ELSE 'high' END AS level,
           s AS expected_score, s AS polarized_score, 12.0 AS polarization_alpha, 0.5 AS polarization_beta,
           1.0 AS temperature, false AS shortened, s::FLOAT AS cross_encoder_score, 'c' AS cross_encoder_version,
           'm' AS model_version, 'p' AS prompt_version, 's' AS scale_version,
           '2026-01-01'::TIMESTAMPTZ + to_seconds(i::DOUBLE / $rows * 30 * 86400) AS judged_at
    FROM (SELECT i, (hash(i + 1) % 1000000) / 1e6 AS s FROM range($first, $next) t(i))
"""


def label_batch(number: int, count: int) -> Commit:
    """One commit as the stream makes it."""
    draw = np.random.default_rng(number)
    probabilities = draw.dirichlet([1, 1, 1], count)
    now = datetime.now(UTC)
    shared = {
        "polarization_alpha": 12.0, "polarization_beta": 0.5, "temperature": 1.0, "cross_encoder_version": "c",
        "model_version": "m", "prompt_version": "p", "scale_version": "s", "judged_at": now, "shortened": False,
    }  # fmt: skip
    labels = [
        {
            "label_key": draw.bytes(16).hex(), "query": f"query {number} {row // 8}", "product_id": f"P{row:05d}",
            "product_hash": draw.bytes(12).hex(), "probabilities": probabilities[row].tolist(),
            "level": ("irrelevant", "moderate", "high")[int(probabilities[row].argmax())],
            "expected_score": float(probabilities[row, 2]), "polarized_score": float(probabilities[row, 2]),
            "cross_encoder_score": float(probabilities[row, 1]), **shared,
        }
        for row in range(count)
    ]  # fmt: skip
    consumed = OffsetRange("search-events", 0, number * count, (number + 1) * count)
    counted: dict[str, Any] = {
        "batch_id": f"{number:032x}", "topic": consumed.topic, "partition": 0, "first_offset": consumed.first,
        "next_offset": consumed.next, "records": count, **dict.fromkeys(OUTCOMES, 0), "labelled": count,
        "ignored_by_action": [], "committed_at": now,
    }  # fmt: skip
    tables = {LABELS.name: rows(LABELS, labels), CONSUMED.name: rows(CONSUMED, [counted])}
    return Commit(counted["batch_id"], (consumed,), tables, label_ranges=[0] * count)


class PlainFile:
    """The same rows and offsets in a plain DuckDB file."""

    def __init__(self, path: Path) -> None:
        self.connection = duckdb.connect(path, config={"threads": 1, "memory_limit": "1GB"})
        for table in (LABELS, CONSUMED, OFFSETS):
            self.connection.execute(f'CREATE TABLE "{table.name}" ({columns_sql(table)})')

    def commit(self, commit: Commit) -> None:
        self.connection.execute("BEGIN")
        for name, table in commit.tables.items():
            self.connection.register("batch", table)
            self.connection.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM batch')
            self.connection.unregister("batch")
        for moved in commit.ranges:
            self.connection.execute('DELETE FROM offsets WHERE topic = ? AND "partition" = ?', moved[:2])
            self.connection.execute("INSERT INTO offsets VALUES (?, ?, ?)", [*moved[:2], moved.next])
        self.connection.execute("COMMIT")


def seconds_of(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_appends(folder: Path, commits: int, batch: int) -> dict[str, Any]:
    """Both targets take each batch in turn; making it is not measured."""
    plain = PlainFile(folder / "plain.duckdb")
    taken: dict[str, list[float]] = {"lake": [], "plain file": []}
    with Lake(lake_settings(folder / "appends")) as lake:
        for number in range(commits):
            made = label_batch(number, batch)
            taken["lake"].append(seconds_of(lambda made=made: lake.commit(made)))  # type: ignore[misc]
            taken["plain file"].append(seconds_of(lambda made=made: plain.commit(made)))  # type: ignore[misc]
        assert lake.query("SELECT count(*) FROM labels") == [(commits * batch,)]
    plain.connection.close()
    return {
        name: {
            "rows_per_second": batch * commits / sum(seconds),
            "commit_ms_median": statistics.median(seconds) * 1000,
            "commit_ms_p95": float(np.percentile(seconds, 95)) * 1000,
        }
        for name, seconds in taken.items()
    }


def measure_queries(folder: Path, count: int, files: int) -> dict[str, Any]:
    with Lake(lake_settings(folder / "queries")) as lake:
        filling = seconds_of(lambda: fill(lake, count, files))
        before, files_before = query_ms(lake), file_count(lake)
        compacting = seconds_of(lambda: list(compact(lake, keep_days=0)))
        after, files_after = query_ms(lake), file_count(lake)
    return {
        "rows": count, "fill_s": filling, "compact_s": compacting, "files_before": files_before,
        "files_after": files_after, "ms_before": before, "ms_after": after,
    }  # fmt: skip


def fill(lake: Lake, count: int, files: int) -> None:
    edges = np.linspace(0, count, files + 1).astype(int)
    for first, following in pairwise(edges):
        statement = MANY_LABELS.replace("$first", str(first)).replace("$next", str(following))
        lake.execute(statement.replace("$rows", str(count)).replace("$queries", str(max(100, count // 100))))


def query_ms(lake: Lake) -> dict[str, float]:
    return {
        name: statistics.median(seconds_of(lambda text=text: lake.query(text)) for _ in range(REPEATS)) * 1000  # type: ignore[misc]
        for name, text in QUERIES.items()
    }


def file_count(lake: Lake) -> int:
    return int(lake.query("SELECT file_count FROM ducklake_table_info('lake') WHERE table_name = 'labels'")[0][0])


def lake_settings(folder: Path) -> LakeSettings:
    return LakeSettings(catalog=f"sqlite:{folder}/catalog.sqlite", data_path=f"{folder}/files")


def report(result: dict[str, Any]) -> None:
    columns = ("rows_per_second", "commit_ms_median", "commit_ms_p95")
    rows_of_table = [(name, *(found[column] for column in columns)) for name, found in result["appends"].items()]
    show("appends", ("target", "rows/s", "commit ms", "p95 ms"), rows_of_table)
    found = result["queries"]
    title = f"{found['rows']:,} labels in {found['files_before']} files, compacted to {found['files_after']}"
    times = [(name, found["ms_before"][name], found["ms_after"][name]) for name in QUERIES]
    show(title, ("query", "before ms", "after ms"), [*times, ("compaction itself", "", found["compact_s"] * 1000)])


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--commits", type=int, default=500, help="batches appended to each target")
    parser.add_argument("--batch", type=int, default=1024, help="labels of one batch")
    parser.add_argument("--rows", type=int, default=10_000_000, help="labels that the queries run over")
    parser.add_argument("--files", type=int, default=500, help="inserts that bring them, each a file or two")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        result = {
            "appends": measure_appends(Path(folder), options.commits, options.batch),
            "queries": measure_queries(Path(folder), options.rows, options.files),
        }
    report(result)
    keep("lake", options, result)


if __name__ == "__main__":
    main()
