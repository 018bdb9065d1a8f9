"""The local store: what the lake knows, on this machine's disk, for look-ups in microseconds.

One LMDB file a machine, shared by the processes on it. It is a cache of the lake and nothing else: it
remembers the snapshot that it has followed the lake to, and can be deleted at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

import lmdb
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from labelstream.schemas.errors import LakeUnavailable, SettingsError, StoreFull
from labelstream.streaming.answer_generations import AnswerGenerations, most_pages, pages
from labelstream.streaming.known_label import KnownLabel
from labelstream.streaming.known_product import KnownProduct

_SNAPSHOT = b"snapshot"
_LAKE = b"lake"
# Of the whole store, for what the lake has: while there is less, no answers are kept.
_RESERVE = 1 / 16
# Pages are free only when nobody looks at them any more: views of other processes end within moments.
_READERS_S = 10.0
_FULL = "the local store is full; raise LABELSTREAM_STORE_MAX_BYTES"

_Result = TypeVar("_Result")


class LocalStore:
    """Opens (and makes, if need be) the store in a folder.

    Args:
        folder: On a local disk.
        max_bytes: Upper bound of the file, which is sparse.

    Raises:
        SettingsError: The folder cannot be used, or holds something else.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        # Losing the last commits in a power cut costs nothing: the store follows the lake again from where it stands.
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._environment = lmdb.open(str(folder), map_size=max_bytes, max_dbs=8, metasync=False)
            self._environment.reader_check()  # slots of processes that were killed
        except lmdb.Error as error:
            raise SettingsError(
                f"LABELSTREAM_STORE_PATH={folder} cannot be opened ({error}); it may be deleted, the lake has it all"
            ) from error
        except OSError as error:
            raise SettingsError(
                f"LABELSTREAM_STORE_PATH={folder}: {error.strerror}; name a folder that may be written"
            ) from error
        self._products = self._environment.open_db(b"products")
        self._aliases = self._environment.open_db(b"aliases")
        self._queries = self._environment.open_db(b"queries")
        self._labels = self._environment.open_db(b"labels")
        self._meta = self._environment.open_db(b"meta")
        self._answers = AnswerGenerations(self._environment, self._meta)
        self._of_lake = (self._products, self._aliases, self._queries, self._labels, self._meta)
        self._most_pages = (1 - _RESERVE) * most_pages(self._environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._environment.close()

    @contextmanager
    def reader(self) -> Iterator[StoreReader]:
        """A consistent view for a batch of look-ups.

        Raises:
            LakeUnavailable: The file cannot be read, or too many processes read it.
        """
        with self._our_errors(), self._environment.begin() as transaction:
            yield StoreReader(self, transaction)

    @contextmanager
    def writer(self) -> Iterator[StoreWriter]:
        """A transaction; one writer at a time a machine, all or nothing.

        Raises:
            StoreFull: It has reached its upper bound.
            LakeUnavailable: The disk is full or broken.
        """
        with self._our_errors():
            with self.reader() as reader:
                is_crowded = reader.is_crowded
            if is_crowded:  # and not yet full to the last page: then there may be none to note what is free
                self._forget_answers()
            with self._environment.begin(write=True) as transaction:
                yield StoreWriter(self, transaction)

    def follow(self, change: Callable[[StoreWriter], _Result]) -> _Result:
        """Change what the store has of the lake; what was remembered for requests makes room for that.

        Args:
            change: Works in one transaction; may be asked twice.

        Raises:
            StoreFull: There is no room, and there are no answers that could make any.
            LakeUnavailable: See ``writer``.
        """
        try:
            return self._change(change)
        except StoreFull:
            with self._our_errors():
                if not self._forget_answers():
                    raise
        full = retry_if_exception_type(StoreFull)
        again = Retrying(retry=full, stop=stop_after_delay(_READERS_S), wait=wait_fixed(0.1), reraise=True)
        return again(lambda: self._change(change))

    def _change(self, change: Callable[[StoreWriter], _Result]) -> _Result:
        with self.writer() as writer:
            return change(writer)

    def _forget_answers(self) -> bool:
        """Whether there were any."""
        with self._environment.begin() as transaction:
            if self._answers.is_empty(transaction):
                return False
        for _ in range(2):  # LMDB uses a page again once two transactions have ended without it
            with self._environment.begin(write=True) as transaction:
                self._answers.clear(transaction)
        return True

    @contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except lmdb.MapFullError as error:
            raise StoreFull(_FULL) from error
        except lmdb.Error as error:
            raise LakeUnavailable(f"local store: {error}") from error


class StoreReader:
    """Look-ups in one consistent view."""

    def __init__(self, store: LocalStore, transaction: lmdb.Transaction) -> None:
        self._store = store
        self._transaction = transaction

    def product_by_id(self, product_id: str) -> KnownProduct | None:
        """A product by its own id."""
        found = self._get(self._store._products, product_id)
        return None if found is None else KnownProduct.decode(found)

    def owner_of(self, alternative_id: str) -> str | None:
        """The id of the product that has this alternative id."""
        owner = self._get(self._store._aliases, alternative_id)
        return None if owner is None else owner.decode()

    def query(self, query_id: str) -> str | None:
        """What was typed under a query id."""
        found = self._get(self._store._queries, query_id)
        return None if found is None else found.decode("utf-8", "surrogatepass")

    def has_label(self, label_key: str) -> bool:
        """Whether this judgement has been made, and is in the lake."""
        return self._transaction.get(bytes.fromhex(label_key), db=self._store._labels) is not None

    def label(self, label_key: str) -> KnownLabel | None:
        """A judgement that was made for somebody who asked, or that is in the lake."""
        key = bytes.fromhex(label_key)
        answer = self._store._answers.get(self._transaction, key)  # may know more: the cross-encoder's score
        value = answer or self._transaction.get(key, db=self._store._labels)
        # Stores of older versions kept the key alone.
        return KnownLabel.decode(label_key, bytes(value)) if value else None

    @property
    def position(self) -> tuple[str, int] | None:
        """(identity of the lake, snapshot) that the store has followed to; None for an empty store."""
        lake = self._transaction.get(_LAKE, db=self._store._meta)
        snapshot = self._transaction.get(_SNAPSHOT, db=self._store._meta)
        return None if lake is None or snapshot is None else (bytes(lake).decode(), int(bytes(snapshot)))

    def counts(self) -> dict[str, int]:
        """Number of products, queries and labels."""
        databases = {"products": self._store._products, "queries": self._store._queries, "labels": self._store._labels}
        return {name: int(self._transaction.stat(database)["entries"]) for name, database in databases.items()}

    @property
    def is_crowded(self) -> bool:
        """Whether there is less room left than what the lake has shall always find."""
        databases = (*self._store._of_lake, *self._store._answers.databases)
        return sum(pages(self._transaction, one) for one in databases) > self._store._most_pages

    def _get(self, database: lmdb._Database, identifier: str) -> bytes | None:
        value = self._transaction.get(_key(identifier), db=database)
        return None if value is None else bytes(value)


class StoreWriter(StoreReader):
    """Changes, applied when the transaction ends without an error."""

    def put_products(self, products: Iterable[KnownProduct]) -> None:
        """Add or replace products; alternative ids that a product no longer has are forgotten."""
        for product in products:
            self._forget_aliases(product.product_id)
            self._transaction.put(_key(product.product_id), product.encode(), db=self._store._products)
            for alias in product.alternative_ids:
                self._transaction.put(_key(alias), product.product_id.encode(), db=self._store._aliases)

    def delete_products(self, product_ids: Iterable[str]) -> None:
        """Forget products."""
        for product_id in product_ids:
            self._forget_aliases(product_id)
            self._transaction.delete(_key(product_id), db=self._store._products)

    def put_queries(self, queries: Iterable[tuple[str, str]]) -> None:
        """Remember (query id, what was typed)."""
        for query_id, text in queries:
            self._transaction.put(_key(query_id), text.encode("utf-8", "surrogatepass"), db=self._store._queries)

    def put_labels(self, labels: Iterable[KnownLabel]) -> None:
        """Remember judgements that are in the lake; that they were answers, too, is forgotten."""
        answers, no_answers = self._store._answers, self._store._answers.is_empty(self._transaction)
        for label in labels:
            key = bytes.fromhex(label.label_key)
            self._transaction.put(key, label.encode(), db=self._store._labels)
            if not no_answers:
                answers.delete(self._transaction, key)

    def put_answers(self, labels: Iterable[KnownLabel]) -> None:
        """Remember judgements that somebody asked for; the stream makes its own, so that the lake has them.

        Raises:
            StoreFull: The room that is left is for what the lake has.
        """
        if self.is_crowded:
            raise StoreFull(_FULL)
        answers = self._store._answers
        answers.make_room(self._transaction)
        for label in labels:
            answers.put(self._transaction, bytes.fromhex(label.label_key), label.encode())

    def set_position(self, lake: str, snapshot: int) -> None:
        """Note how far the store has followed which lake."""
        self._transaction.put(_LAKE, lake.encode(), db=self._store._meta)
        self._transaction.put(_SNAPSHOT, str(snapshot).encode(), db=self._store._meta)

    def clear(self) -> None:
        """Forget everything."""
        for database in (*self._store._of_lake, *self._store._answers.databases):
            self._transaction.drop(database, delete=False)

    def _forget_aliases(self, product_id: str) -> None:
        old = self._get(self._store._products, product_id)
        for alias in () if old is None else KnownProduct.decode(old).alternative_ids:
            if self._get(self._store._aliases, alias) == product_id.encode():
                self._transaction.delete(_key(alias), db=self._store._aliases)


def _key(identifier: str) -> bytes:
    """LMDB keys are short; identifiers from outside need not be."""
    return hashlib.blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=16).digest()
