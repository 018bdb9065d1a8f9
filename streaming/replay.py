"""Replay a recorded search log (UBI) into Kafka, as its shop would have sent it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.lines import read_lines
from labelstream.streaming.publish import Outgoing, publish

_BULK_ACTIONS = {"index", "create", "update", "delete"}


class ReplayCounts(NamedTuple):
    """What a log held.

    Attributes:
        documents: Records produced, over all repeats.
        queries: Those that are UBI queries.
        events: Those that are UBI events.
        others: Those that are neither, unreadable ones among them; the stream judges them.
    """

    documents: int = 0
    queries: int = 0
    events: int = 0
    others: int = 0


def replay(
    path: Path,
    settings: KafkaSettings,
    *,
    repeat: int = 1,
    rate: float | None = None,
    limit: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ReplayCounts:
    """Produce a log's documents, byte for byte, keyed by query id.

    A query and its events share a key and so a partition, which keeps them in order. Lines that cannot be
    read are produced too, without a key: the stream's dead letters are where they are judged.

    Args:
        path: One document a line, or OpenSearch bulk form; plain or gzip.
        settings: How to reach Kafka and what the topic is called.
        repeat: How many times the whole log is produced.
        rate: Records a second at most; None for as fast as Kafka takes them.
        limit: Records at most, over all repeats; None for all.
        on_progress: Called now and then with the number of records sent since the last call.

    Returns:
        What was produced.

    Raises:
        BrokerUnavailable: Kafka did not take a record in time.
        SettingsError: The file cannot be read, or Kafka refuses us.
    """
    tally = {"queries": 0, "events": 0, "others": 0}

    def outgoing() -> Iterator[Outgoing]:
        for document in documents(path, repeat=repeat, limit=limit):
            tally[document.kind] += 1
            yield document.record

    records = outgoing() if rate is None else paced(outgoing(), rate)
    sent = publish(records, settings.events_topic, settings, on_progress)
    return ReplayCounts(sent, **tally)


class Document(NamedTuple):
    """One document of a log and what it is: queries, events or others."""

    kind: str
    record: Outgoing


def documents(path: Path, *, repeat: int = 1, limit: int | None = None) -> Iterator[Document]:
    """Read a log's documents, without the action lines of the bulk form.

    Raises:
        SettingsError: The file cannot be read.
    """
    left = float("inf") if limit is None else limit
    for _ in range(repeat):
        for _, line in read_lines(path):
            if left <= 0:
                return
            if (document := read_document(line)) is not None:
                yield document
                left -= 1


def read_document(line: bytes) -> Document | None:
    """Key and kind of one line of a log; None for an action line of the bulk form."""
    try:
        value = from_json(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return Document("others", Outgoing(None, line))
    if _is_bulk_action(value):
        return None
    query_id = value.get("query_id")
    key = str(query_id).encode() if isinstance(query_id, str | int) and query_id != "" else None
    return Document(_kind(value), Outgoing(key, line))


def paced(
    records: Iterable[Outgoing],
    rate: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Outgoing]:
    """Hold records back so that at most ``rate`` a second pass, counted from the first one."""
    start = clock()
    for number, record in enumerate(records):
        early = start + number / rate - clock()
        if early > 0:
            sleep(early)
        yield record


def _is_bulk_action(value: dict[str, Any]) -> bool:
    # A document may have an "index" too (the name of its index), but then it is a text and not alone.
    if len(value) != 1:
        return False
    action, target = next(iter(value.items()))
    return action in _BULK_ACTIONS and isinstance(target, dict)


def _kind(value: dict[str, Any]) -> str:
    if value.get("index") in ("ubi_queries", "ubi_events"):
        return "queries" if value["index"] == "ubi_queries" else "events"
    if "action_name" in value:
        return "events"
    return "queries" if "user_query" in value else "others"
