from __future__ import annotations

import gzip
import json
import threading
from contextlib import closing
from pathlib import Path

import pytest
from conftest import MakeSettings
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.errors import BrokerUnavailable
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.kafka_client import make_consumer
from labelstream.streaming.publish import Outgoing
from labelstream.streaming.replay import Document, ReplayCounts, documents, paced, read_document, replay
from labelstream.streaming.topics import EndOffsets, ensure_topics, partitions_of

QUERY = b'{"index": "ubi_queries", "query_id": "q1", "user_query": "lamp"}'
EVENT = b'{"action_name": "click",  "query_id": "q1"}'


@pytest.mark.parametrize(
    ("line", "kind", "key"),
    [
        (QUERY, "queries", b"q1"),
        (EVENT, "events", b"q1"),
        (b'{"query_id": 7, "user_query": "a"}', "queries", b"7"),
        (b'{"action_name": "a", "query_id": null}', "events", None),
        (b'{"action_name": "a", "query_id": ""}', "events", None),
        (b'{"query": "a", "product_id": "1"}', "others", None),
        (b'{"cut', "others", None),
        (b"\xff\xfe", "others", None),
        (b"[]", "others", None),
    ],
)
def test_a_line_has_a_kind_and_a_key(line: bytes, kind: str, key: bytes | None):
    assert read_document(line) == Document(kind, Outgoing(key, line))


@pytest.mark.parametrize("line", [b'{"index": {"_index": "ubi_events"}}', b'{"create": {}}'])
def test_an_action_line_is_no_document(line: bytes):
    assert read_document(line) is None


@given(st.binary())
def test_any_line_is_kept_byte_for_byte(line: bytes):
    document = read_document(line)
    assert document is None or document.record.value == line


@pytest.mark.parametrize(("repeat", "limit", "count"), [(1, None, 2), (3, None, 6), (3, 5, 5), (1, 0, 0)])
def test_repeat_and_limit(tmp_path: Path, repeat: int, limit: int | None, count: int):
    path = tmp_path / "log.ndjson.gz"
    path.write_bytes(gzip.compress(QUERY + b"\n\n" + EVENT + b"\n"))
    assert [d.record.value for d in documents(path, repeat=repeat, limit=limit)] == ([QUERY, EVENT] * 3)[:count]


class FakeTime:
    """A clock that only sleep and work move."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(rate=st.floats(0.1, 1e5), work=st.floats(0, 0.01), count=st.integers(1, 200))
def test_paced_records_keep_to_the_rate(rate: float, work: float, count: int):
    time = FakeTime()
    records = paced([Outgoing(None, b"")] * count, rate, clock=time.clock, sleep=time.sleep)
    for number, _ in enumerate(records):
        assert time.now >= number / rate * (1 - 1e-9)
        time.sleep(work)
    # No slower than it must be: held back by the rate or by the work, whichever takes longer.
    assert time.now <= (count - 1) * max(1 / rate, work) + work + 1e-6


def test_the_chorus_log_is_told_by_its_index(data_dir: Path):
    kinds = [document.kind for document in documents(data_dir / "ubi/chorus_log.ndjson.gz")]
    assert {kind: kinds.count(kind) for kind in kinds} == {"queries": 3336, "events": 21_664}


def test_the_bulk_form_loses_its_action_lines(data_dir: Path):
    path = data_dir / "ubi/esci_ubi_bulk.ndjson"
    lines = path.read_bytes().splitlines()
    read = [document.record.value for document in documents(path)]
    assert len(lines) == 7842
    assert read == lines[1::2]


@pytest.mark.broker
def test_a_log_is_replayed_as_it_is(kafka: KafkaCluster, fresh_topics: MakeSettings, data_dir: Path, tmp_path: Path):
    settings = fresh_topics(kafka.bootstrap_servers)
    ensure_topics(settings)
    path = tmp_path / "log.ndjson"
    original = gzip.decompress((data_dir / "ubi/chorus_log.ndjson.gz").read_bytes()).splitlines()[:3000]
    path.write_bytes(b"\n".join([*original, b"no json"]))
    steps: list[int] = []
    counts = replay(path, settings, on_progress=steps.append)
    assert counts.documents == sum(steps) == 3001
    assert counts == ReplayCounts(3001, counts.queries, 3000 - counts.queries, 1)
    with EndOffsets(settings, [settings.events_topic]) as ask:
        ends = ask()
    values: list[bytes] = []
    partitions: dict[bytes, set[int]] = {}
    with closing(make_consumer(settings, group=False)) as consumer:
        consumer.assign(partitions_of(consumer, settings.events_topic))
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for batch in consumer.poll(500).values():
                values += [record.value for record in batch]
                for record in batch:
                    if record.key is not None:
                        assert record.key.decode() == json.loads(record.value)["query_id"]
                        partitions.setdefault(record.key, set()).add(record.partition)
    assert sorted(values) == sorted([*original, b"no json"])
    assert {len(numbers) for numbers in partitions.values()} == {1}
    assert len(set.union(*partitions.values())) > 1


@pytest.mark.broker
def test_a_broker_that_dies_on_the_way_is_heard_of(kafka_home: Path, fresh_topics: MakeSettings, tmp_path: Path):
    path = tmp_path / "log.ndjson"
    path.write_bytes((EVENT + b"\n") * 5000)
    with KafkaCluster.start(home=kafka_home) as cluster:
        settings = fresh_topics(cluster.bootstrap_servers, request_timeout_ms=1000)
        ensure_topics(settings)

        def kill_once(_: int) -> None:
            if cluster.pids:
                cluster.kill(1)

        with pytest.raises(BrokerUnavailable):
            replay(path, settings, repeat=5, on_progress=kill_once)
        assert not [thread for thread in threading.enumerate() if thread.name.endswith("network-thread")]
