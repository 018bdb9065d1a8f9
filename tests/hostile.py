"""A seeded stream of records as bad as they come, with good ones in between."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from lakes import EVENTS, MOMENT, PRODUCT_TOPIC

from labelstream.schemas.product import Product
from labelstream.streaming.records import Record

PRODUCTS, PARTITIONS = 50, 3
MARKERS = (
    "<|im_start|>system",
    "<|im_end|>",
    "[INST]",
    "<<SYS>>",
    "</s>",
    "<|<|im_end|>|>",
    "\nRating:\n2",
    "<start_of_turn>",
)
SCRIPTS = (
    "sofa",
    "canapé",
    "سرير أحمر",
    "ソファ",
    "диван",
    "소파",
    "ספה",
    "沙發",
    "😀🛋️",
    "ａｂｃ",
    "e\u0301\u0302\u0303",
)
CONTROL = "".join(map(chr, [*range(32), *range(127, 160), 0x200B, 0x202E, 0x2028, 0xFEFF, 0xFFFF, 0x10FFFF]))
TIMES = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", -1, 10**30, 1e308, "tomorrow", [], True, 1994, "")
WRONG = (None, True, -1, 10**400, 1e308, [], {}, [[[[[[]]]]]], {"a": {"b": []}}, "", "\x00", ["x"] * 1000, "x" * 5000)
FIELDS = (
    "query",
    "product_id",
    "action",
    "position",
    "timestamp",
    "query_id",
    "user_query",
    "action_name",
    "event_attributes",
)
PRODUCT_FIELDS = tuple(Product.model_fields)
RAW = (
    b"", b" ", b"not json", b"\xff\xfe\x00", b"\x80" * 100, b"null", b"[]", b"7", b'"text"', b"{}", b"[" * 10_000,
    b'{"query":' * 10_000 + b"1" + b"}" * 10_000, b'{"query":"a","product_id":' + b"[" * 150 + b"]" * 150 + b"}",
    b'{"query":"a","product_id":"p1"', b'{"query":"a","product_id":"p1"} x', b'{"query":NaN,"product_id":Infinity}',
    b'{"query":"\\ud800","product_id":"p1"}', b'{"query":"a\\u0000b","product_id":"p1"}', b'{"query":"a","query":7}',
    b'{"query":"a","product_id":"p1","product_id":"p2"}', b'{"query":"a","product_id":' + b"9" * 5000 + b"}",
    b'\xef\xbb\xbf{"query":"a","product_id":"p1"}', '{"query":"a","product_id":"p1"}'.encode("utf-16"),
)  # fmt: skip


class HostileStream:
    """Records of all partitions in turn.

    Args:
        seed: Same seed, same records.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._next = {(EVENTS, p): 0 for p in range(PARTITIONS)} | {(PRODUCT_TOPIC, 0): 0}

    def records(self, number: int) -> Iterator[Record]:
        """Records with one of 10 MB among them."""
        kinds: tuple[Callable[[], bytes | None], ...] = (
            self._raw, self._wrong_event, self._wrong_product, self._hostile_text, self._orphan, self._bad_time,
            self._bytes, self._good_pair, self._good_click, self._good_query,
        )  # fmt: skip
        for index in range(number):
            topic = PRODUCT_TOPIC if self._random.random() < 0.15 else EVENTS
            if index == number // 2:
                yield self._record(EVENTS, b'{"query":"' + b"x" * 10_000_000 + b'","product_id":"p1"}')
            elif topic == PRODUCT_TOPIC and self._random.random() < 0.7:
                yield self._record(topic, self._product())
            else:
                yield self._record(topic, self._random.choice(kinds)())

    def _record(self, topic: str, value: bytes | None) -> Record:
        partition = 0 if topic == PRODUCT_TOPIC else self._random.randrange(PARTITIONS)
        # Compaction and transactions leave holes.
        offset = self._next[topic, partition] + self._random.choice((0, 0, 0, 1, 5))
        self._next[topic, partition] = offset + 1
        key = self._random.choice((None, b"", b"\xff\x00", b"p3", "é".encode()))
        headers = self._random.choice(((), (("h", None),), (("a", b"\xff\x00'"), ("a", b"")), (("é\x00", b"x"),)))
        return Record(topic, partition, offset, key, value, headers, self._random.choice((None, MOMENT)))

    def _pick(self, *values: Any) -> Any:
        return self._random.choice(values)

    def _product_id(self) -> str:
        return f"p{self._random.randrange(PRODUCTS)}"

    def _query_id(self) -> str:
        return f"q{self._random.randrange(100)}"

    def _text(self) -> str:
        parts = (*MARKERS, *SCRIPTS, CONTROL, " ", "'", '"', "\\", "x" * self._random.randrange(50))
        return "".join(self._random.choices(parts, k=self._random.randrange(1, 6)))

    def _raw(self) -> bytes | None:
        return self._pick(None, *RAW)

    def _bytes(self) -> bytes:
        return self._random.randbytes(self._random.randrange(200))

    def _wrong_event(self) -> bytes:
        good = self._pick(
            {"query": "sofa", "product_id": "p1"},
            {"query_id": "q1", "user_query": "sofa"},
            {"action_name": "click", "query_id": "q1", "event_attributes": {"object": {"object_id": "p1"}}},
        )
        return dumped(good | {self._pick(*FIELDS): self._pick(*WRONG)})

    def _wrong_product(self) -> bytes:
        return dumped(
            {"product_id": self._product_id(), "title": "t"} | {self._pick(*PRODUCT_FIELDS): self._pick(*WRONG)}
        )

    def _hostile_text(self) -> bytes:
        return dumped({"query": self._text(), "product_id": self._product_id()})

    def _orphan(self) -> bytes:
        return self._pick(
            dumped({"query": self._text(), "product_id": f"unknown {self._random.randrange(20)}"}),
            dumped(self._click(self._pick("never asked", self._query_id()), self._pick("unknown", "p1"))),
            dumped({"action_name": self._text(), "query_id": "q1"}),
        )

    def _bad_time(self) -> bytes:
        return dumped({"query": "sofa", "product_id": "p1", "timestamp": self._pick(*TIMES)})

    def _click(self, query_id: str, product_id: str) -> dict[str, Any]:
        attributes = {"object": {"object_id": product_id}, "position": {"ordinal": self._random.randrange(30)}}
        action = self._pick("click", "impression", "purchase")
        return {"action_name": action, "query_id": query_id, "event_attributes": attributes, "timestamp": 1717527761998}

    def _good_click(self) -> bytes:
        return dumped(self._click(self._query_id(), self._product_id()))

    def _good_pair(self) -> bytes:
        return dumped({"query": f"query {self._random.randrange(40)}", "product_id": self._product_id()})

    def _good_query(self) -> bytes:
        return dumped({"query_id": self._query_id(), "user_query": self._pick("sofa", "bed", *SCRIPTS)})

    def _product(self) -> bytes:
        fields = {"title": self._text() + "x", "description": self._text(), "attributes": {self._text(): self._text()}}
        aliases = [f"unknown {self._random.randrange(20)}"]
        return dumped({"product_id": self._product_id(), "alternative_ids": aliases} | fields)


def dumped(message: Any) -> bytes:
    """JSON as Python writes it: NaN included."""
    return json.dumps(message).encode()
