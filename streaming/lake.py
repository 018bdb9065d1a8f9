"""The lake: tables, the exactly-once commit, and what readers ask."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, Self

import duckdb
import pyarrow as pa

from labelstream.schemas.errors import LakeUnavailable, SettingsError, StaleBatch
from labelstream.schemas.settings import LakeSettings
from labelstream.schemas.tables import OFFSETS, OUTCOMES, PRODUCTS, WAITING
from labelstream.streaming.commit import Commit, OffsetRange, rows
from labelstream.streaming.commit_turn import CommitTurn
from labelstream.streaming.ducklake import CATALOGUE, connect
from labelstream.streaming.lake_errors import lake_errors
from labelstream.streaming.layout import create_tables, lay_out
from labelstream.streaming.object_storage import StorageKey

# A row of ``offsets`` that is nobody's: what labels of requests replace in a lake that has read nothing yet.
_NOTHING_READ = ("(requests)", -1)

# What tells a record, and so a waiting event, from every other one.
_PLACE = ("topic", "partition", "offset")

# ``ducklake_snapshots`` reads what each of them changed, which takes seconds where there are many.
_SNAPSHOTS = f"{CATALOGUE}.ducklake_snapshot"


class Lake:
    """One connection to the lake; not for several threads at once.

    Args:
        settings: Where it lives.
        read_only: Only read; the lake must exist.
    """

    def __init__(self, settings: LakeSettings, *, read_only: bool = False) -> None:
        self._settings = settings
        self._connection = connect(settings, read_only=read_only)
        self._key = StorageKey(self._connection, settings)
        self._turn = CommitTurn(self._connection, settings)
        try:
            if not read_only:
                create_tables(self)
                lay_out(self)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; the lake itself is unchanged."""
        self._turn.close()
        self._connection.close()

    def execute(self, statement: str, parameters: list[Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Run one statement.

        Raises:
            TransientError: Locked, lost a race, or storage trouble.
            SettingsError: Anything else that DuckDB refuses.
        """
        with lake_errors():
            self._key.renew()
            return self._connection.execute(statement, parameters)

    def query(self, statement: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a SELECT; raises as ``execute`` does."""
        with lake_errors():
            return self.execute(statement, parameters).fetchall()

    def arrow_batches(self, statement: str, parameters: list[Any] | None = None) -> Iterator[pa.RecordBatch]:
        """A SELECT's result, a bounded number of rows at a time; raises as ``execute`` does, at any of them."""
        with lake_errors():
            yield from self.execute(statement, parameters).to_arrow_reader(50_000)

    @property
    def snapshot(self) -> int:
        """The newest snapshot id."""
        return int(self.query("SELECT id FROM lake.current_snapshot()")[0][0])

    @property
    def committed_snapshot(self) -> int:
        """The snapshot that this connection's last transaction has made."""
        return int(self.query("SELECT id FROM ducklake_last_committed_snapshot('lake')")[0][0])

    @property
    def oldest_snapshot(self) -> int:
        """The oldest snapshot that has not been expired."""
        return int(self.query(f"SELECT min(snapshot_id) FROM {_SNAPSHOTS}")[0][0])

    def made_on(self, snapshot: int) -> date:
        """The day, in UTC, of a snapshot that the lake has."""
        made = "make_timestamp(epoch_us(snapshot_time::TIMESTAMPTZ))::DATE"  # whatever the session's time zone
        [(day,)] = self.query(f"SELECT {made} FROM {_SNAPSHOTS} WHERE snapshot_id = ?", [snapshot])
        assert isinstance(day, date)
        return day

    def known_snapshot(self, snapshot: int | None) -> int:
        """A snapshot id that the lake has: the given one, or for None the newest.

        Raises:
            SettingsError: The lake does not have it.
        """
        number = self.snapshot if snapshot is None else snapshot
        if self.query(f"SELECT count(*) FROM {_SNAPSHOTS} WHERE snapshot_id = ?", [number]) == [(0,)]:
            kept = f"{self.oldest_snapshot} to {self.snapshot}"
            raise SettingsError(f"snapshot {snapshot}: the lake has {kept}; name one of these, or leave it out")
        return number

    @property
    def identity(self) -> str:
        """Tells this lake from every other one, also from one made anew in the same place.

        Raises:
            LakeUnavailable: Somebody is just making it.
        """
        found = self.query("SELECT table_uuid FROM ducklake_table_info('lake') WHERE table_name = 'consumed'")
        if not found:
            raise LakeUnavailable("the lake has no tables yet")
        return str(found[0][0])

    def offsets(self) -> dict[tuple[str, int], int]:
        """The next offset to consume of each (topic, partition)."""
        return {place: offset for place, offset in self._offset_rows().items() if place != _NOTHING_READ}

    def _offset_rows(self) -> dict[tuple[str, int], int]:
        return {(topic, partition): offset for topic, partition, offset in self.query("SELECT * FROM offsets")}

    def commit(self, commit: Commit, prepare: Callable[[], Commit] | None = None) -> bool:
        """Append a batch and move its offsets, in one transaction.

        The offsets are the fence: a batch is taken only if each of its ranges begins exactly where the lake
        left off, so a consumer that lost its partition, and has not noticed, cannot double a row. Of two commits
        that overlap in time one is refused, whatever they hold: commits follow each other.

        Args:
            commit: What to add.
            prepare: Makes of the commit what is to be written, within the transaction: what it reads of the lake
                is still so when the commit is done.

        Returns:
            False if this very batch had been committed before (the answer was lost, and it came again).

        Raises:
            StaleBatch: Another batch has moved these offsets; read on from the lake.
            LakeBusy: Somebody else was first; nothing was written.
            TransientError: Nothing was written, try again.
        """
        with self._turn:
            return self._commit(commit, prepare or (lambda: commit))

    def _commit(self, commit: Commit, prepare: Callable[[], Commit]) -> bool:
        self.execute("BEGIN")
        try:
            self._check_fence(commit)
            self._write(prepare())
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
                self.execute(f"DELETE FROM waiting USING resolved WHERE {_same('waiting', 'resolved', _PLACE)}")
        self._move_offsets(commit.ranges)

    def _delete_replaced_products(self, commit: Commit) -> None:
        upserts = commit.tables.get(PRODUCTS.name)
        replaced = [] if upserts is None else upserts.column("product_id").to_pylist()
        gone = [*replaced, *commit.deleted_products]
        if gone:
            self.execute("DELETE FROM products WHERE product_id IN (SELECT unnest(?))", [gone])

    def _move_offsets(self, ranges: Sequence[OffsetRange]) -> None:
        """Delete and insert, not insert alone: of two transactions that delete the same row DuckLake lets one win.

        So every commit also replaces the first row, as it is. The first commit of all has no row to replace; it changes
        the table's comment, which does the same. It could not be that for ever: each change is a new schema, which
        every connection keeps in memory.
        """
        current = self._offset_rows()
        if current:
            first = min(current)
            moved = {first: current[first]}
        else:
            self.execute("COMMENT ON TABLE offsets IS 'The next offset to consume of each partition'")
            moved = {} if ranges else {_NOTHING_READ: 0}
        moved |= {(r.topic, r.partition): r.next for r in ranges}
        reached = [{"topic": t, "partition": p, "next_offset": following} for (t, p), following in moved.items()]
        with self._registered("moved", rows(OFFSETS, reached)):
            self.execute(f"DELETE FROM offsets USING moved WHERE {_same('offsets', 'moved', _PLACE[:2])}")
            self.execute("INSERT INTO offsets SELECT * FROM moved")

    @contextlib.contextmanager
    def _registered(self, name: str, table: pa.Table) -> Iterator[None]:
        """An Arrow table that DuckDB can see under a name for a moment."""
        self._connection.register(name, table)
        try:
            yield
        finally:
            self._connection.unregister(name)

    def totals(self) -> dict[str, int]:
        """Sum of every count of the ``consumed`` table."""
        names = ("records", *OUTCOMES)
        columns = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in names)
        return dict(zip(names, self.query(f"SELECT {columns} FROM consumed")[0], strict=True))


def _waiting_keys(commit: Commit) -> pa.Table:
    fields = [WAITING.schema.field(name) for name in _PLACE]
    columns = list(zip(*commit.resolved, strict=True))
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)], schema=pa.schema(fields))


def _same(left: str, right: str, columns: Sequence[str]) -> str:
    return " AND ".join(f'{left}."{name}" = {right}."{name}"' for name in columns)
