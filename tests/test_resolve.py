from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lakes import Bench, click, product_record, query
from standins import HangingWriter
from stream import wait_until

from labelstream.streaming.batch import Batch
from labelstream.streaming.resolve import Resolver


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        bench.take(query(0, "q", "red sofa"), click(1, "q", "p"))
        bench.take(product_record(0, "p"))
        yield bench


def test_a_writer_that_hangs_while_only_waiting_events_are_left_is_restarted(bench: Bench):
    writer = HangingWriter(bench.writer.resolvable(10))
    resolver = Resolver(bench.settings, writer.services(), bench.builder)
    batches: list[Batch] = []

    def resolved() -> bool:
        batch = resolver.poll([])
        batches.extend([batch] if batch else [])
        return bool(batches)

    assert not resolved()
    wait_until(resolved)
    assert writer.restarts == 1
    assert [seen.query for seen in batches[0].pairs] == ["red sofa"]
