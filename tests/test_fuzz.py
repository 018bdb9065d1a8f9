from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile import PRODUCTS, HostileStream
from lakes import Bench, count
from models import byte_level_tokenizer, shop_texts
from standins import uniform

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.judgements import Judgements
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.prompt_encoder import PromptEncoder
from labelstream.schemas.scale import LabelScale
from labelstream.schemas.tables import OUTCOMES
from labelstream.streaming.batch import Batch
from labelstream.streaming.buffer import RecordBuffer
from labelstream.streaming.follow import catch_up
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.records import Record

RECORDS, BATCH_RECORDS, IN_FLIGHT = 10_000, 500, 3
Place = tuple[str, int, int]


class EncodingJudge:
    """Encodes every prompt as the labeller does, then answers with the same distribution for every pair."""

    def __init__(self) -> None:
        tokenizer = byte_level_tokenizer(600, shop_texts())
        self._encoder = PromptEncoder(Prompt(LabelScale()), tokenizer, 400)
        self._special = set(tokenizer.all_special_ids)

    def judge(self, batch: Batch) -> Judgements:
        pairs = batch.pairs
        encoded = self._encoder.encode([pair.query for pair in pairs], [pair.product.text for pair in pairs])
        answer = uniform(len(pairs))
        for index, prompt in enumerate(encoded):
            if isinstance(prompt, BadRecord):
                answer.probabilities[index] = np.nan
                answer.errors[index] = prompt
            else:
                assert not self._special & set(prompt.token_ids[1:])
        return answer


class Outcome:
    """What has become of the hostile stream."""

    def __init__(self, folder: Path) -> None:
        self.records: dict[Place, Record] = {}
        self.bench = Bench(folder)
        self._judge = EncodingJudge()
        self._in_flight: deque[Batch] = deque()
        self._read(HostileStream(seed=20261121))
        while batch := self._resolvable():
            self._commit(batch)

    def _read(self, stream: HostileStream) -> None:
        buffer = RecordBuffer(BATCH_RECORDS, linger_s=60)
        for record in stream.records(RECORDS):
            place = (record.topic, record.partition)
            if place not in buffer.positions:
                buffer.begin(place, record.offset)
            self.records[*place, record.offset] = record
            buffer.add(place, [record])
            if buffer.is_full:
                self._launch(buffer)
        if not buffer.is_empty:
            self._launch(buffer)
        while self._in_flight:
            self._commit(self._in_flight.popleft())

    def _launch(self, buffer: RecordBuffer) -> None:
        self._in_flight.append(self.bench.builder.prepare(buffer.take(), self._in_flight))
        if len(self._in_flight) == IN_FLIGHT:
            self._commit(self._in_flight.popleft())

    def _commit(self, batch: Batch) -> None:
        self.bench.writer.commit(self.bench.finish(batch, self._judge.judge(batch)))

    def _resolvable(self) -> Batch | None:
        waiting = self.bench.writer.resolvable(BATCH_RECORDS).rows
        batch = self.bench.builder.prepare_waiting(waiting, ())
        return batch if batch.resolved else None


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    outcome = Outcome(tmp_path_factory.mktemp("fuzz"))
    yield outcome
    outcome.bench.writer.close()


def test_every_record_is_counted_once(outcome: Outcome):
    totals = outcome.bench.writer.totals()
    assert totals["records"] == RECORDS == sum(totals[name] for name in OUTCOMES)
    assert all(totals[name] > 100 for name in OUTCOMES), totals


def test_every_batch_sums_up(outcome: Outcome):
    statement = f"SELECT count(*) FROM consumed WHERE records <> {' + '.join(OUTCOMES)}"
    assert outcome.bench.lake.query(statement) == [(0,)]


@pytest.mark.parametrize(
    ("table", "total"),
    [("labels", "labelled"), ("waiting", "waiting"), ("dead_letters", "dead_lettered"), ("queries", "queries")],
)
def test_the_rows_are_as_many_as_the_counts(outcome: Outcome, table: str, total: str):
    assert count(outcome.bench.lake, table) == outcome.bench.writer.totals()[total]


def test_no_record_lies_in_two_places(outcome: Outcome):
    tables = ("dead_letters", "waiting")
    statements = [f'SELECT topic, "partition", "offset" FROM {table}' for table in tables]
    places = outcome.bench.lake.query(" UNION ALL ".join(statements))
    assert len(set(places)) == len(places)
    assert set(places) <= set(outcome.records)


def test_every_dead_letter_is_the_record_as_it_came(outcome: Outcome):
    statement = 'SELECT topic, "partition", "offset", key, value, stage, headers, error, message FROM dead_letters'
    stages = set()
    for *place, key, value, stage, headers, error, message in outcome.bench.lake.query(statement):
        record = outcome.records[tuple(place)]
        assert (key, value) == (record.key, record.value)
        if stage == "read":
            assert [(header["name"], header["value"]) for header in headers] == list(record.headers)
        assert error == "BadRecord"
        assert message
        stages.add(stage)
    assert stages >= {"read", "judge"}


def test_every_waiting_event_is_the_record_as_it_came(outcome: Outcome):
    for *place, value in outcome.bench.lake.query('SELECT topic, "partition", "offset", value FROM waiting'):
        assert value == outcome.records[tuple(place)].value


def test_the_ranges_tile_every_partition(outcome: Outcome):
    reached: dict[tuple[str, int], int] = {}
    statement = """
        SELECT topic, "partition", first_offset, next_offset FROM consumed WHERE topic <> '(waiting)' ORDER BY ALL
    """
    for topic, partition, first, following in outcome.bench.lake.query(statement):
        assert reached.get((topic, partition), first) == first < following
        reached[topic, partition] = following
    assert reached == outcome.bench.writer.offsets()
    last = {(topic, partition): offset + 1 for topic, partition, offset in sorted(outcome.records)}
    assert reached == last


def test_no_pair_is_labelled_twice_and_every_label_is_a_distribution(outcome: Outcome):
    labels, keys, good = outcome.bench.lake.query(
        "SELECT count(*), count(DISTINCT label_key), "
        "count(*) FILTER (abs(list_sum(probabilities) - 1) < 1e-6 AND expected_score BETWEEN 0 AND 1) FROM labels"
    )[0]
    assert labels == keys == good


def test_a_fresh_store_is_the_same_as_the_one_that_followed(outcome: Outcome, tmp_path: Path):
    with LocalStore(tmp_path, 256 << 20) as fresh:
        catch_up(fresh, outcome.bench.lake)
        with fresh.reader() as one, outcome.bench.store.reader() as other:
            assert one.counts() == other.counts()
            ids = [f"p{i}" for i in range(PRODUCTS)]
            assert [one.product_by_id(i) for i in ids] == [other.product_by_id(i) for i in ids]
