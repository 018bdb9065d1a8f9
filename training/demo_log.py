"""A simulated search log of the made-up shop, in the UBI format. The users in it are invented, every one.

A session is one query and what follows it. Shoppers behave as in the position-based click model (Craswell et
al., WSDM 2008): they look at rank *r* with a probability that falls with *r*, and click what they looked at
with a probability that grows with its true relevance. Two front ends write the log as differently as real ones
do: one names products by ``product_id`` and writes ISO times, the other uses EANs and epoch milliseconds.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from labelstream.schemas.product import Product
from labelstream.training.demo_catalogue import QueryIntent, intent_met_by, phrase, relevance

Record = tuple[bytes | None, bytes]

PAGE = 10
UNKNOWN_PRODUCT_SHARE = 0.005
BAD_RECORD_SHARE = 0.004
BAD_VALUES = (
    b'{"action_name": "click", "query_id": "cut off in the mid',
    b'{"user_query": "a query without an id"}',
    b'{"heartbeat": true}',
    b'{"action_name": "click", "query_id": "q", "timestamp": "yesterday"}',
    b"[1, 2, 3]",
)

_DISTINCT_QUERIES = 320
_ZIPF_EXPONENT = 0.75  # how much more often the first queries are sent than the last
_FOUND = PAGE + 4
_NEVER_CLICKED = ("brand_filter", "type_filter", "product_sort", "page_exit")
_LOOKS = tuple((rank + 1) ** -0.7 for rank in range(PAGE))
_CLICKS = (0.04, 0.25, 0.6)  # by true level, as are the two below
_CARTS = (0.02, 0.15, 0.35)
_PURCHASES = (0.1, 0.3, 0.6)
_OPENING = datetime(2026, 1, 5, 8, tzinfo=UTC)


class _FrontEnd(NamedTuple):
    """How one application writes its documents."""

    application: str
    click: str
    object_id_field: str
    iso_times: bool

    def time(self, moment: datetime) -> str | int:
        return moment.isoformat(timespec="milliseconds") if self.iso_times else round(moment.timestamp() * 1000)

    def name(self, product: Product) -> str:
        return product.product_id if self.object_id_field == "product_id" else product.alternative_ids[0]


_FRONT_ENDS = (
    _FrontEnd("demo-web", click="click", object_id_field="product_id", iso_times=True),
    _FrontEnd("demo-app", click="item_click", object_id_field="ean", iso_times=False),
)


class _Query(NamedTuple):
    """A query that many shoppers send, and what a middling search engine finds for it, best first."""

    text: str
    intent: QueryIntent
    found: list[Product]


def _popular_query(rng: random.Random, catalogue: Sequence[Product]) -> _Query:
    intent = intent_met_by(rng, rng.choice(catalogue))
    guess = [relevance(intent, product) + rng.gauss(0, 0.6) for product in catalogue]  # the truth, blurred
    best = sorted(range(len(catalogue)), key=guess.__getitem__, reverse=True)[:_FOUND]
    return _Query(phrase(rng, intent), intent, [catalogue[place] for place in best])


def search_log(catalogue: Sequence[Product], *, seed: int = 1, sessions: int = 830) -> Iterator[Record]:
    """Simulate a search log; the default gives about 12,000 records.

    Args:
        catalogue: What the shop sells, as from ``demo_catalogue``.
        seed: The same seed and catalogue give the same log.
        sessions: Number of queries sent.

    Yields:
        (Kafka key, value) in the order of time, sessions overlapping. The key is the query id, so that a query
        and its events share a partition; it is None for the few records that are broken on purpose, one of
        ``BAD_VALUES``.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    queries = [_popular_query(rng, catalogue) for _ in range(_DISTINCT_QUERIES)]
    popularity = [(rank + 1) ** -_ZIPF_EXPONENT for rank in range(_DISTINCT_QUERIES)]
    written: list[tuple[datetime, Record]] = []
    for number, query in enumerate(rng.choices(queries, popularity, k=sessions)):
        written += _Session(rng, number, query).records()
    for _, record in sorted(written, key=lambda entry: entry[0]):
        if rng.random() < BAD_RECORD_SHARE:
            yield None, rng.choice(BAD_VALUES)
        yield record


@dataclass
class _Session:
    """One query and what its shopper does."""

    rng: random.Random
    number: int
    query: _Query

    def __post_init__(self) -> None:
        self._front_end = self.rng.choice(_FRONT_ENDS)
        self._query_id = f"{self.rng.getrandbits(128):032x}"
        self._client_id = f"client-{self.rng.randrange(300):03d}"
        self._now = _OPENING + timedelta(seconds=20 * self.number)

    def records(self) -> Iterator[tuple[datetime, Record]]:
        """The session's documents with the time of each: the query, then the events."""
        typed = self.rng.choice((self.query.text, self.query.text.lower()))
        yield self._document(user_query=typed, application=self._front_end.application)
        yield self._document(action_name="on_search", message=typed)
        hits = self._page()
        for rank, product in enumerate(hits):
            yield self._event("impression", product, rank)
        for rank, product in enumerate(hits):
            for action in self._actions(rank, relevance(self.query.intent, product)):
                yield self._event(action, product, rank)
        if self.rng.random() < 1 / 4:
            yield self._document(action_name=self.rng.choice(_NEVER_CLICKED))

    def _page(self) -> list[Product]:
        """The first page: what was found, put in a slightly different order for everybody."""
        places = sorted(range(len(self.query.found)), key=lambda place: place + self.rng.gauss(0, 2))
        return [self.query.found[place] for place in places[:PAGE]]

    def _actions(self, rank: int, level: int) -> Iterator[str]:
        """What the shopper does with the product at that rank; each step needs the one before."""
        if self.rng.random() < _LOOKS[rank] * _CLICKS[level]:
            yield self._front_end.click
            if self.rng.random() < _CARTS[level]:
                yield "add_to_cart"
                if self.rng.random() < _PURCHASES[level]:
                    yield "purchase"

    def _event(self, action: str, product: Product, rank: int) -> tuple[datetime, Record]:
        unknown = self.rng.random() < UNKNOWN_PRODUCT_SHARE
        name = f"NEW-{self.rng.randrange(20):04d}" if unknown else self._front_end.name(product)
        attributes = {
            "object": {"object_id": name, "object_id_field": self._front_end.object_id_field},
            "position": {"ordinal": rank + 1},
        }
        return self._document(action_name=action, event_attributes=attributes)

    def _document(self, **fields: Any) -> tuple[datetime, Record]:
        self._now += timedelta(milliseconds=self.rng.randint(1, 4000))
        common = {
            "query_id": self._query_id,
            "client_id": self._client_id,
            "timestamp": self._front_end.time(self._now),
        }
        return self._now, (self._query_id.encode(), json.dumps(common | fields).encode())
