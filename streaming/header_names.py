"""The name of a header need not be UTF-8, whatever a producer has written.

kafka-python 3.0.12 gives up the rest of a batch of records, at every try, for a name that is not. There is no setting
for it, so one method of the pinned version is changed here.
"""

from __future__ import annotations

from typing import Any

from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch

_strictly = DefaultRecordBatch.__next__


def read_any_header_name() -> None:
    """Have the consumers of this process read such names, with an escape for each such byte."""
    DefaultRecordBatch.__next__ = DefaultRecordBatch.next = _next_record


def _next_record(batch: Any) -> Any:
    try:
        return _strictly(batch)
    except CorruptRecordError as error:
        if not isinstance(error.__context__, UnicodeDecodeError):
            raise
        batch._buffer = _Lenient(batch._buffer)  # it has not moved on
        return _strictly(batch)


class _Lenient(bytearray):
    """Bytes whose parts can always be decoded."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Lenient(found) if isinstance(index, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
