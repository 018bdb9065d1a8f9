from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lakes import Bench, click, count, pair, product_record, query, record, tombstone
from standins import JUDGE, uniform

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.judgements import Judgements
from labelstream.schemas.polarization import polarize
from labelstream.schemas.tables import OUTCOMES
from labelstream.streaming.batch import Batch
from labelstream.streaming.commit import Commit
from labelstream.streaming.waiting_rows import resolvable_rows


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        yield bench


def refused(batch: Batch, *words: str) -> Judgements:
    """Judgements that refuse the pairs whose query has one of the words."""
    answer = uniform(len(batch.pairs))
    for index, seen in enumerate(batch.pairs):
        if any(word in seen.query for word in words):
            answer.probabilities[index] = np.nan
            answer.errors[index] = BadRecord("user_query: too long", field="user_query")
    return answer


def assert_sums(commit: Commit) -> None:
    for row in commit.tables["consumed"].to_pylist():
        assert row["records"] == sum(row[outcome] for outcome in OUTCOMES)
        assert row["ignored"] == sum(number for _, number in row["ignored_by_action"])
    assert commit.tables["dead_letters"].num_rows == sum(commit.tables["consumed"].column("dead_lettered").to_pylist())
    assert commit.tables["labels"].num_rows == len(commit.label_ranges)


def letters(commit: Commit) -> list[tuple[int, str]]:
    return [(row["offset"], row["stage"]) for row in commit.tables["dead_letters"].to_pylist()]


kinds = st.sampled_from(["product", "delete", "query", "click", "pair", "refused", "scroll", "junk", "empty"])


@settings(max_examples=12, deadline=None)
@given(steps=st.lists(st.lists(st.tuples(kinds, st.integers(0, 2)), min_size=1, max_size=12), min_size=1, max_size=4))
def test_every_record_of_every_batch_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[tuple[str, int]]]
):
    make = {
        "product": lambda offset, i: product_record(offset, f"p{i}"),
        "delete": lambda offset, i: tombstone(offset, f"p{i}"),
        "query": lambda offset, i: query(offset, f"q{i}", f"sofa {i}"),
        "click": lambda offset, i: click(offset, f"q{i}", f"p{i}"),
        "pair": lambda offset, i: pair(offset, "bed", f"p{i}"),
        "refused": lambda offset, i: pair(offset, "refuse", f"p{i}"),
        "scroll": lambda offset, i: click(offset, "q", "p", f"scroll {i}"),
        "junk": lambda offset, _: record(offset, b"junk"),
        "empty": lambda offset, i: pair(offset, " ", f"p{i}"),
    }
    with Bench(tmp_path_factory.mktemp("batch")) as bench:
        offset, in_flight = 0, []
        for step in steps:
            records = [make[kind](offset + n, i) for n, (kind, i) in enumerate(step)]
            offset += len(records)
            in_flight.append(bench.prepare(*records, in_flight=in_flight))
        for batch in in_flight:
            commit = bench.finish(batch, refused(batch, "refuse"))
            assert_sums(commit)
            # The topics share offsets here, so a range may cover some of the other's: not what is tested.
            apart = Commit(commit.batch_id, (), commit.tables, commit.deleted_products, (), commit.label_ranges)
            bench.writer.commit(apart)
        totals = bench.writer.totals()
        assert totals["records"] == offset == sum(totals[outcome] for outcome in OUTCOMES)
        assert (totals["waiting"], totals["labelled"]) == (count(bench.lake, "waiting"), count(bench.lake, "labels"))


def test_a_query_of_an_earlier_batch_in_flight_is_known(bench: Bench):
    first = bench.prepare(product_record(0, "p"), query(0, "q", "sofa"))
    second = bench.prepare(click(1, "q", "p"), in_flight=[first])
    assert [seen.query for seen in second.pairs] == ["sofa"]
    assert bench.prepare(click(1, "q", "p")).sorted.waiting


def test_pairs_come_by_query(bench: Bench):
    records = [pair(i, word, f"p{i % 3}") for i, word in enumerate("babcacabb")]
    batch = bench.prepare(*(product_record(i, f"p{i}") for i in range(3)), *records)
    queries = [seen.query for seen in batch.pairs]
    assert queries == sorted(queries)
    assert len(queries) == len({(seen.query, seen.product.product_id) for seen in batch.pairs})


def test_a_label_row_holds_the_whole_judgement(bench: Bench):
    batch = bench.prepare(product_record(0, "p"), pair(0, "Sofa", "p"))
    probabilities = np.array([[0.125, 0.25, 0.625]], np.float32)
    judged = Judgements(probabilities, np.array([True]))
    commit = bench.builder.finish(batch, judged, np.array([0.5]), "encoder-1")
    [row] = commit.tables["labels"].to_pylist()
    assert (row["probabilities"], row["level"], row["shortened"]) == ([0.125, 0.25, 0.625], "high", True)
    assert row["expected_score"] == 0.75
    assert row["polarized_score"] == pytest.approx(float(polarize(np.array(0.75), 10, 0.5)))
    assert (row["cross_encoder_score"], row["cross_encoder_version"]) == (0.5, "encoder-1")
    assert (row["model_version"], row["prompt_version"], row["scale_version"]) == JUDGE.version


def test_an_answer_of_the_cross_encoder_that_is_no_number_is_no_score(bench: Bench):
    batch = bench.prepare(product_record(0, "p"), pair(0, "Sofa", "p"))
    judged = Judgements(np.array([[0.125, 0.25, 0.625]], np.float32), np.array([False]))
    [row] = bench.builder.finish(batch, judged, np.array([np.nan]), "encoder-1").tables["labels"].to_pylist()
    assert (row["cross_encoder_score"], row["cross_encoder_version"]) == (None, "encoder-1")


def test_the_first_of_equal_pairs_is_labelled_the_others_cached(bench: Bench):
    bench.take(product_record(0, "p"), pair(0, "a", "p"), pair(1, "A", "p"), pair(2, "b", "p"))
    bench.take(pair(3, "a", "p"))
    assert bench.totals() == {"records": 5, "products": 1, "labelled": 2, "cached": 2}


def test_a_product_that_changed_is_judged_again(bench: Bench):
    bench.take(product_record(0, "p"), pair(0, "a", "p"))
    bench.take(product_record(1, "p", price=7), pair(1, "a", "p"))
    assert bench.totals()["labelled"] == 1
    bench.take(product_record(2, "p", title="Another"), pair(2, "a", "p"))
    assert bench.totals()["labelled"] == 2


def test_all_events_of_a_pair_that_failed_are_dead_letters(bench: Bench):
    batch = bench.prepare(product_record(0, "p"), pair(0, "bad", "p"), pair(1, "bad", "p"), pair(2, "good", "p"))
    commit = bench.finish(batch, refused(batch, "bad"))
    assert letters(commit) == [(0, "judge"), (1, "judge")]
    assert commit.tables["labels"].column("query").to_pylist() == ["good"]
    assert_sums(commit)


def test_the_next_batch_in_flight_shares_the_failure(bench: Bench):
    first = bench.prepare(product_record(0, "p"), pair(0, "bad", "p", action="click"))
    second = bench.prepare(pair(1, "bad", "p", action="click"), in_flight=[first])
    assert second.pairs == []
    bench.writer.commit(bench.finish(first, refused(first, "bad")))
    third = bench.prepare(pair(2, "bad", "p"), in_flight=[second])
    commit = bench.finish(second)
    assert letters(commit) == [(1, "judge")]
    assert commit.tables["engagement"].num_rows == 0
    assert len(third.pairs) == 1, "a batch that came after the failure asks for itself"
    assert letters(bench.finish(third)) == []


class TestWaiting:
    """Events that came before their query or their product."""

    def test_they_are_judged_once_the_product_has_come(self, bench: Bench):
        bench.take(query(0, "q", "sofa"), click(1, "q", "p"), click(2, "q", "p"), click(3, "q", "never"))
        assert bench.totals() == {"records": 4, "queries": 1, "waiting": 3}
        assert bench.resolve().resolved == []
        bench.take(product_record(0, "p"))
        batch = bench.resolve()
        assert len(batch.resolved) == 2
        assert bench.totals() == {
            "records": 5, "queries": 1, "products": 1, "waiting": 1, "labelled": 1, "cached": 1,
        }  # fmt: skip
        assert bench.lake.query("SELECT clicks FROM engagement") == [(2,)]

    def test_the_row_of_their_batch_sums_to_nothing(self, bench: Bench):
        bench.take(pair(0, "sofa", "p"), pair(1, " ", "p"))
        bench.take(product_record(0, "p"))
        bench.resolve()
        statement = "SELECT records, waiting, labelled, ignored FROM consumed WHERE topic = '(waiting)'"
        assert bench.lake.query(statement) == [(0, -2, 1, 1)]
        assert bench.totals()["records"] == 3

    def test_they_wait_for_their_query_too(self, bench: Bench):
        bench.take(product_record(0, "p"), click(0, "q", "p"))
        bench.take(query(1, "q", "sofa"))
        assert len(bench.resolve().resolved) == 1

    def test_one_that_turns_out_bad_is_a_dead_letter_with_its_bytes(self, bench: Bench):
        bad = pair(0, "x" * 1001, "p")
        bench.take(bad)
        bench.take(product_record(0, "p"))
        bench.resolve()
        assert bench.lake.query("SELECT stage, value FROM dead_letters") == [("join", bad.value)]
        assert count(bench.lake, "waiting") == 0

    def test_where_the_store_is_behind_the_lake_they_wait_on(self, bench: Bench):
        bench.take(pair(0, "sofa", "p"))
        bench.take(product_record(0, "p"))
        waiting = resolvable_rows(bench.lake, 10)
        with bench.store.writer() as writer:
            writer.delete_products(["p"])
        batch = bench.builder.prepare_waiting(waiting, ())
        assert (batch.resolved, batch.pairs) == ([], [])

    def test_a_limit_leaves_the_rest_for_later(self, bench: Bench):
        bench.take(*(pair(i, "sofa", "p") for i in range(5)))
        bench.take(product_record(0, "p"))
        assert [len(bench.resolve(limit=3).resolved) for _ in range(3)] == [3, 2, 0]
        assert bench.totals() == {"records": 6, "products": 1, "labelled": 1, "cached": 4}
