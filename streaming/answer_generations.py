"""Labels that were made for somebody who asked: as many as there is room for, the oldest go first."""

from __future__ import annotations

import lmdb

# Of the whole store, for each of the two generations.
_SHARE = 1 / 16
_YOUNG = b"answers"


class AnswerGenerations:
    """Two databases of the local store: a young one that is written, and one with what was there before.

    When the young one has its share of the store, the old one is emptied and becomes the young one. So an answer stays
    for at least one share of others, and nothing has to be known of its age.

    Args:
        environment: The store's.
        meta: Where it is noted which of the two is the young one.
    """

    def __init__(self, environment: lmdb.Environment, meta: lmdb._Database) -> None:
        self.databases = (environment.open_db(b"answers"), environment.open_db(b"answers-2"))
        self._meta = meta
        self._most_pages = _SHARE * most_pages(environment)

    def get(self, transaction: lmdb.Transaction, key: bytes) -> bytes | None:
        """The newest answer of this key."""
        young = self._young(transaction)
        for database in (self.databases[young], self.databases[1 - young]):
            if (value := transaction.get(key, db=database)) is not None:
                return bytes(value)
        return None

    def make_room(self, transaction: lmdb.Transaction) -> None:
        """Begin a new generation, if the young one has its share."""
        young = self._young(transaction)
        if pages(transaction, self.databases[young]) > self._most_pages:
            transaction.drop(self.databases[1 - young], delete=False)
            transaction.put(_YOUNG, b"%d" % (1 - young), db=self._meta)

    def put(self, transaction: lmdb.Transaction, key: bytes, value: bytes) -> None:
        """Remember an answer."""
        transaction.put(key, value, db=self.databases[self._young(transaction)])

    def delete(self, transaction: lmdb.Transaction, key: bytes) -> None:
        """Forget the answer of this key."""
        for database in self.databases:
            transaction.delete(key, db=database)

    def is_empty(self, transaction: lmdb.Transaction) -> bool:
        """Whether there is no answer at all."""
        return not any(transaction.stat(database)["entries"] for database in self.databases)

    def clear(self, transaction: lmdb.Transaction) -> None:
        """Forget all."""
        for database in self.databases:
            transaction.drop(database, delete=False)
        transaction.put(_YOUNG, b"0", db=self._meta)

    def _young(self, transaction: lmdb.Transaction) -> int:
        return int(bytes(transaction.get(_YOUNG, b"0", db=self._meta)))


def most_pages(environment: lmdb.Environment) -> float:
    """How many pages the file may have."""
    return environment.info()["map_size"] / environment.stat()["psize"]


def pages(transaction: lmdb.Transaction, database: lmdb._Database) -> int:
    """How many pages of the file a database takes."""
    found = transaction.stat(database)
    return found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
