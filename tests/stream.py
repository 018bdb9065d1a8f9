"""A small known log, Ingest loops in threads, and the account that must come out."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patience import TIMEOUT
from standins import services

from labelstream.schemas.settings import KafkaSettings, LakeSettings, Settings, StoreSettings, StreamSettings
from labelstream.streaming.ingest import Ingest
from labelstream.streaming.kafka_client import make_consumer
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.publish import Outgoing, publish

if TYPE_CHECKING:
    from labelstream.actors.application import Application, Progress

PRODUCTS = 40
ACTIONS = ("impression", "click", "add_to_cart", "purchase", "brand_filter")


class KnownLog:
    """A seeded log with everything that can be known about it in advance.

    Attributes:
        events: (key, value) of the events topic.
        products: (key, value) of the products topic.
        pairs: Distinct pairs with at least one event that counts.
        engagement: Count of each (query, product, kind).
        outcomes: Records by what must become of them, waiting and judged ones together as ``joined``.
    """

    def __init__(self, seed: int, sessions: int) -> None:
        self._random = random.Random(seed)
        self.events: list[Outgoing] = []
        self.pairs: set[tuple[str, str]] = set()
        self.engagement: Counter[tuple[str, str, str]] = Counter()
        self.outcomes: Counter[str] = Counter(products=PRODUCTS)
        self.products = [
            Outgoing(f"p{i}".encode(), json.dumps({"product_id": f"p{i}", "title": f"thing number {i}"}).encode())
            for i in range(PRODUCTS)
        ]
        for session in range(sessions):
            self._add_session(f"{seed}-{session}")

    def _add_session(self, query_id: str) -> None:
        query = f"query {self._random.randrange(60)}"
        self._add(query_id, {"query_id": query_id, "user_query": query, "timestamp": 1717527761998}, "queries")
        for _ in range(self._random.randrange(8)):
            action, product = self._random.choice(ACTIONS), f"p{self._random.randrange(PRODUCTS)}"
            attributes = {"object": {"object_id": product}, "position": {"ordinal": self._random.randrange(10)}}
            event = {"action_name": action, "query_id": query_id, "event_attributes": attributes}
            event["timestamp"] = "2024-06-05T10:00:00Z"
            if action == "brand_filter":
                self._add(query_id, event, "ignored")
                continue
            self._add(query_id, event, "joined")
            self.pairs.add((query, product))
            self.engagement[query, product, action] += 1
        if self._random.random() < 0.05:
            self.events.append(Outgoing(query_id.encode(), b"\xff not json"))
            self.outcomes["dead_lettered"] += 1

    def _add(self, query_id: str, document: dict[str, Any], outcome: str) -> None:
        self.events.append(Outgoing(query_id.encode(), json.dumps(document).encode()))
        self.outcomes[outcome] += 1

    def send_products(self, kafka: KafkaSettings) -> None:
        """Publish the catalogue."""
        publish(self.products, kafka.products_topic, kafka)

    def send_events(self, kafka: KafkaSettings, first: int = 0, last: int | None = None) -> None:
        """Publish some of the events."""
        publish(self.events[first:last], kafka.events_topic, kafka)

    def check(self, lake: Lake) -> None:
        """Nothing lost and nothing doubled, read from the lake alone."""
        totals = lake.totals()
        expected = {name: self.outcomes[name] for name in ("queries", "products", "dead_lettered", "ignored")}
        assert {name: totals[name] for name in expected} == expected
        assert totals["labelled"] + totals["cached"] == self.outcomes["joined"]
        assert totals["waiting"] == 0
        assert totals["records"] == sum(self.outcomes.values())
        assert totals["labelled"] == len(self.pairs)
        labels = lake.query("SELECT query, product_id FROM labels")
        assert len(labels) == len(set(labels))
        assert set(labels) == self.pairs
        assert self._engagement(lake) == self.engagement
        assert lake.query("SELECT count(*) FROM dead_letters") == [(self.outcomes["dead_lettered"],)]
        assert lake.query("SELECT count(*) FROM products") == [(PRODUCTS,)]
        self._check_ranges(lake)

    @staticmethod
    def _engagement(lake: Lake) -> Counter[tuple[str, str, str]]:
        counts: Counter[tuple[str, str, str]] = Counter()
        names = {"impression": "impressions", "click": "clicks", "add_to_cart": "add_to_carts", "purchase": "purchases"}
        for kind, column in names.items():
            for query, product, count in lake.query(
                f"SELECT query, product_id, sum({column})::BIGINT FROM engagement GROUP BY ALL HAVING sum({column}) > 0"
            ):
                counts[query, product, kind] = count
        return counts

    @staticmethod
    def _check_ranges(lake: Lake) -> None:
        """The consumed ranges of a partition follow each other without gap or overlap."""
        ranges = lake.query(
            'SELECT topic, "partition", first_offset, next_offset FROM consumed WHERE "partition" >= 0 ORDER BY ALL'
        )
        reached: dict[tuple[str, int], int] = {}
        for topic, partition, first, following in ranges:
            assert first == reached.get((topic, partition), 0)
            reached[topic, partition] = following
        assert reached == lake.offsets()


def stream_settings(folder: Path, kafka: KafkaSettings, **stream: Any) -> Settings:
    """Settings of a stream that lives in a folder."""
    lake = LakeSettings(catalog=f"sqlite:{folder}/lake.sqlite", data_path=str(folder / "lake"))
    store = StoreSettings(path=folder / "store", max_bytes=1 << 30)
    defaults = {"batch_records": 50, "linger_s": 0.05, "resolve_interval_s": 0.2, "shutdown_s": 20}
    return Settings(kafka=kafka, lake=lake, store=store, stream=StreamSettings(**(defaults | stream)))


class Replica:
    """An Ingest loop on a thread."""

    def __init__(
        self, settings: Settings, store: LocalStore, judge: Any, writer: Any, give_up_s: float = 30, **options: Any
    ) -> None:
        self._consumer = make_consumer(settings.kafka, group=settings.kafka.assignment == "group")
        self.ingest = Ingest(settings, self._consumer, store, services(judge, writer, give_up_s), **options)
        self.error: BaseException | None = None
        self.given_back = -1
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.given_back = self.ingest.run()
        except BaseException as error:
            self.error = error

    @property
    def is_running(self) -> bool:
        """Whether the loop goes on."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it in good order."""
        self.ingest.stop()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


def wait_until(
    condition: Callable[[], bool],
    seconds: float = TIMEOUT,
    what: str = "",
    every: float = 0.05,
    explain: Callable[[], str] = str,
) -> None:
    """Wait for a condition, with a deadline; ``explain`` is asked when it has passed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{explain()}"
        time.sleep(every)


def look_until(
    application: Application, is_so: Callable[[Progress], bool], what: str, seconds: float = TIMEOUT
) -> None:
    """Look after the application, as ``labelstream run`` does, until something is so."""
    progress = application.look()

    def looks_so() -> bool:
        nonlocal progress
        progress = application.look()
        return is_so(progress)

    wait_until(looks_so, seconds, what, every=0.1, explain=lambda: str(progress))
