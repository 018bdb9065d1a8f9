"""Keep the local store at the lake's newest snapshot: a rebuild and a catch-up are the same thing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from labelstream.schemas.tables import LABELS, PRODUCTS, QUERIES
from labelstream.streaming.commit import Commit
from labelstream.streaming.known_label import KnownLabel
from labelstream.streaming.known_product import KnownProduct
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore, StoreWriter
from labelstream.streaming.product_rows import product_of

logger = logging.getLogger(__name__)

_COLUMNS = {
    PRODUCTS.name: "product_id, product_hash, title, brand, category, description, attributes, alternative_ids",
    QUERIES.name: "query_id, user_query",
    LABELS.name: ", ".join(KnownLabel._fields),
}


def catch_up(store: LocalStore, lake: Lake) -> int:
    """Bring the store to the lake's newest snapshot.

    A store of another lake, or one whose snapshot the lake no longer has, is rebuilt.

    Returns:
        The snapshot that the store is at now.
    """
    identity, newest = lake.identity, lake.snapshot
    with store.reader() as reader:
        if reader.position == (identity, newest):
            return newest
    return store.follow(lambda writer: _catch_up(writer, lake))


def follow_commit(store: LocalStore, commit: Commit, lake: str, before: int) -> bool:
    """Put into the store what a commit has just put into the lake, as the very next snapshot.

    Args:
        store: Of this machine.
        commit: As the lake took it.
        lake: Its identity.
        before: The snapshot before the commit.

    Returns:
        False if the store was somewhere else; it must catch up.
    """

    def follow(writer: StoreWriter) -> bool:
        if writer.position != (lake, before):
            return False
        apply_commit(writer, commit)
        writer.set_position(lake, before + 1)
        return True

    return store.follow(follow)


def apply_commit(writer: StoreWriter, commit: Commit) -> None:
    """Put into the store what a commit has just put into the lake."""
    writer.delete_products(commit.deleted_products)
    for name, put in _puts(writer).items():
        table = commit.tables.get(name)
        if table is not None and table.num_rows:
            put(table.to_pylist())


def _catch_up(writer: StoreWriter, lake: Lake) -> int:
    position = writer.position  # only now nobody else on this machine can move it
    identity, newest = lake.identity, lake.snapshot
    if position is not None and position[0] == identity and lake.oldest_snapshot <= position[1] <= newest:
        if position[1] < newest:
            _apply_changes(writer, lake, position[1] + 1, newest)
    else:
        logger.info("the local store is rebuilt from snapshot %d of the lake", newest)
        writer.clear()
        _load(writer, lake, newest)
    writer.set_position(identity, newest)
    return newest


def _apply_changes(writer: StoreWriter, lake: Lake, first: int, last: int) -> None:
    for name in (QUERIES.name, LABELS.name):
        statement = f"SELECT {_COLUMNS[name]} FROM ducklake_table_insertions('lake', 'main', '{name}', ?, ?)"
        for batch in lake.arrow_batches(statement, [first, last]):
            _puts(writer)[name](batch.to_pylist())
    changes = f"""
        SELECT change_type, {_COLUMNS[PRODUCTS.name]}
        FROM ducklake_table_changes('lake', 'main', '{PRODUCTS.name}', ?, ?)
        ORDER BY snapshot_id, change_type
    """  # 'delete' sorts before 'insert': an upsert is both, in one snapshot
    for batch in lake.arrow_batches(changes, [first, last]):
        for row in batch.to_pylist():
            if row["change_type"] == "delete":
                writer.delete_products([row["product_id"]])
            elif row["change_type"] == "insert":
                _put_products(writer, [row])


def _load(writer: StoreWriter, lake: Lake, snapshot: int) -> None:
    for name, put in _puts(writer).items():
        statement = f"SELECT {_COLUMNS[name]} FROM {name} AT (VERSION => {snapshot})"
        for batch in lake.arrow_batches(statement):
            put(batch.to_pylist())


def _puts(writer: StoreWriter) -> Mapping[str, Callable[[list[dict[str, Any]]], None]]:
    return {
        PRODUCTS.name: lambda rows: _put_products(writer, rows),
        QUERIES.name: lambda rows: writer.put_queries((row["query_id"], row["user_query"]) for row in rows),
        LABELS.name: lambda rows: writer.put_labels(map(KnownLabel.of, rows)),
    }


def _put_products(writer: StoreWriter, rows: Iterable[Mapping[str, Any]]) -> None:
    writer.put_products(KnownProduct.of(product_of(row)) for row in rows)
