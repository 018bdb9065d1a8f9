from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from lakes import Bench, click, product_record, query
from standins import HangingWriter, done
from stream import wait_until

from labelstream.streaming import resolve
from labelstream.streaming.batch import Batch
from labelstream.streaming.resolve import Resolver
from labelstream.streaming.waiting_rows import Resolvable


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


@pytest.mark.parametrize("waited", [0, 60])
def test_an_answer_that_takes_long_is_asked_for_seldom(bench: Bench, waited: float, monkeypatch: pytest.MonkeyPatch):
    now, asked = 100.0, list[float]()
    monkeypatch.setattr(resolve, "time", SimpleNamespace(monotonic=lambda: now))

    def resolvable(_: int) -> Future[Resolvable]:
        nonlocal now
        asked.append(now)
        now += waited + 3  # with a lake of many queries
        return done(Resolvable(1, [], 3))

    writer = HangingWriter(None)
    monkeypatch.setattr(writer, "resolvable", resolvable)
    resolver = Resolver(bench.settings, writer.services(), bench.builder)
    for moment in (100.0, *(waited + later for later in (103.0, 110.0, 132.0, 134.0))):
        now = moment
        resolver.look_again()
        assert resolver.poll([]) is None
        assert resolver.poll([]) is None
    # Ten times as long as it took, at least, however long it had waited for a Writer that was busy.
    assert asked == [100.0, 134.0 + waited]
