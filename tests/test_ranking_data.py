from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from lakes import (
    Bench,
    a_commit,
    click,
    filled_lake,
    lake_settings,
    pair,
    product_record,
    query,
    record,
    tombstone,
    training_table,
)

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product, product_text
from labelstream.streaming.lake import Lake
from labelstream.streaming.records import Record
from labelstream.training.features import EngagementHistory, FeatureTable, build_features
from labelstream.training.lexical import LexicalIndex
from labelstream.training.ranking_data import TrainingCounts, TrainingSnapshot, history_of, product_of

UNTIL = date(2026, 3, 4)  # the day of MOMENT
ATTRIBUTES = {"Colour": "red", "Größe": "1,5 m"}


def seen(offset: int, day: str, text: str, product_id: str, action: str = "click") -> Record:
    """An event of a day, with its query."""
    message = {"action_name": action, "user_query": text, "timestamp": f"2026-03-{day}T23:59:59Z"}
    attributes = {"object": {"object_id": product_id}, "position": {"ordinal": 1}}
    return record(offset, message | {"query_id": f"q-{text}", "event_attributes": attributes})


def fill(bench: Bench) -> Bench:
    """Two queries, three products, four labelled pairs, and engagement before the day."""
    bench.take(
        product_record(0, "a", title="Red sofa", price=99, brand="Ashby", attributes=ATTRIBUTES),
        product_record(1, "b"),
        product_record(2, "c", price=5.5),
    )
    bench.take(query(0, "q-red sofa", "red sofa"), query(1, "q-lamp", "Lamp"))
    bench.take(
        seen(2, "01", "red sofa", "b"),
        seen(3, "02", "red sofa", "a", "impression"),
        seen(4, "03", "red sofa", "a"),
        seen(5, "03", "lamp", "a", "purchase"),
        seen(6, "03", "lamp", "c", "add_to_cart"),
    )
    return bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A lake that a test may add to."""
    with Bench(tmp_path) as bench:
        yield fill(bench)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """The same for all tests that only read."""
    with filled_lake(tmp_path_factory.mktemp("lake"), fill) as lake:
        yield lake


def features(training: TrainingSnapshot) -> FeatureTable:
    rows = training_table(training)
    pairs = rows.to_pylist()
    products = [product_of(row) for row in pairs]
    index = LexicalIndex(training.products())
    history = history_of(rows, training.until)
    return build_features([row["query"] for row in pairs], products, index, history=history)


def column(rows: pa.Table, name: str) -> list[Any]:
    return rows.column(name).to_pylist()


def test_a_training_set_is_ordered_by_query_and_product_and_has_it_all(lake: Lake):
    rows = training_table(TrainingSnapshot(lake, until=UNTIL))
    pairs = list(zip(column(rows, "query"), column(rows, "product_id"), strict=True))
    assert pairs == [("lamp", "a"), ("lamp", "c"), ("red sofa", "a"), ("red sofa", "b")]
    assert column(rows, "expected_score") == pytest.approx([0.5] * 4)
    assert column(rows, "probabilities")[0] == pytest.approx([1 / 3] * 3)
    assert (column(rows, "polarization_alpha"), column(rows, "polarization_beta")) == ([10.0] * 4, [0.5] * 4)
    assert column(rows, "cross_encoder_score") == [None] * 4
    assert column(rows, "price") == [99, 5.5, 99, None]
    assert column(rows, "pair_clicks") == [0, 0, 1, 1]
    assert column(rows, "product_clicks") == [1, 0, 1, 1]
    assert column(rows, "pair_impressions") == [0, 0, 1, 0]
    assert column(rows, "pair_purchases") == [1, 0, 0, 0]
    assert column(rows, "product_purchases") == [1, 0, 1, 0]
    assert column(rows, "product_add_to_carts") == [0, 1, 0, 0]


def test_a_product_comes_back_as_the_models_saw_it(lake: Lake):
    products = {product.product_id: product for product in TrainingSnapshot(lake, until=UNTIL).products()}
    original = Product(product_id="a", title="Red sofa", price=99, brand="Ashby", attributes=ATTRIBUTES)
    assert list(products) == ["a", "b", "c"]
    assert products["a"].model_dump(exclude_unset=True) == original.model_dump(
        exclude={"alternative_ids", "updated_at"}
    )
    assert product_text(products["a"]) == product_text(original)


def test_what_shoppers_did_from_the_day_on_changes_no_feature(bench: Bench):
    before = features(TrainingSnapshot(bench.lake, until=UNTIL))
    actions = ("impression", "click", "add_to_cart", "purchase")
    pairs = [("red sofa", "a"), ("red sofa", "b"), ("lamp", "a"), ("lamp", "c")]
    days = ("04", "05", "20")
    later = [(day, *pair, action) for day in days for pair in pairs for action in actions]
    bench.take(*(seen(7 + number, *event) for number, event in enumerate(later)))
    after = features(TrainingSnapshot(bench.lake, until=UNTIL))
    np.testing.assert_array_equal(after.values, before.values)
    one_day_more = features(TrainingSnapshot(bench.lake, until=date(2026, 3, 5)))
    changed = {name for name, values in zip(after.names, (one_day_more.values != after.values).T, strict=True)
               if (values & ~np.isnan(after.values[:, after.names.index(name)])).any()}  # fmt: skip
    assert changed == {name for name in after.names if name.startswith(("pair_", "product_"))}


def test_the_day_itself_does_not_count_and_the_one_before_does(lake: Lake):
    rows = {day: training_table(TrainingSnapshot(lake, until=date(2026, 3, day))) for day in (1, 2, 3, 4)}
    totals = {day: sum(column(table, "pair_clicks")) for day, table in rows.items()}
    assert totals == {1: 0, 2: 1, 3: 1, 4: 2}


def test_the_history_of_any_pairs_is_that_of_the_training_set(lake: Lake):
    training = TrainingSnapshot(lake, until=UNTIL)
    rows = training_table(training)
    order = np.array([3, 0, 2, 1, 0])
    queries = [column(rows, "query")[i] for i in order]
    asked = training.history([text.upper() for text in queries], [column(rows, "product_id")[i] for i in order])
    expected = history_of(rows, UNTIL)
    np.testing.assert_array_equal(asked.pair, expected.pair[order])
    np.testing.assert_array_equal(asked.product, expected.product[order])
    assert asked.until == UNTIL


def test_a_pair_that_nobody_saw_has_the_popularity_of_its_product(lake: Lake):
    history = TrainingSnapshot(lake, until=UNTIL).history(["never asked", "lamp"], ["a", "unheard of"])
    assert history.pair.tolist() == [[0] * 4, [0] * 4]
    assert history.product.tolist() == [[1, 1, 0, 1], [0] * 4]


def test_no_pairs_have_no_history(lake: Lake):
    history = TrainingSnapshot(lake, until=UNTIL).history([], [])
    assert isinstance(history, EngagementHistory)
    assert (history.pair.shape, history.product.shape) == ((0, 4), (0, 4))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 50])
def test_whole_queries_are_all_rows_in_order(lake: Lake, monkeypatch: pytest.MonkeyPatch, size: int):
    training = TrainingSnapshot(lake, until=UNTIL)
    rows = training_table(training)
    nothing = rows.slice(0, 0).to_batches() or [pa.RecordBatch.from_pylist([], rows.schema)]
    batches = [*nothing, *rows.combine_chunks().to_batches(max_chunksize=size), *nothing]
    monkeypatch.setattr(training, "batches", lambda: iter(batches))
    parts = list(training.whole_queries())
    assert pa.concat_tables(parts).equals(rows)
    queries = [set(column(part, "query")) for part in parts]
    assert sum(map(len, queries)) == len(set.union(*queries)) == 2


def test_a_snapshot_stays_what_it_was(bench: Bench):
    old = TrainingSnapshot(bench.lake, until=UNTIL)
    first = training_table(old)
    bench.take(product_record(3, "a", title="Green chair"), product_record(4, "d"))
    bench.take(pair(7, "lamp", "d"), pair(8, "red sofa", "a"), seen(9, "01", "lamp", "a"))
    again = TrainingSnapshot(bench.lake, until=UNTIL, snapshot=old.snapshot)
    assert training_table(again).equals(first)
    assert [product.product_id for product in again.products()] == ["a", "b", "c"]
    newest = TrainingSnapshot(bench.lake, until=UNTIL)
    assert newest.count() == TrainingCounts(5, 2, 0)
    assert "Green chair" in column(training_table(newest), "title")
    assert sum(column(training_table(newest), "pair_clicks")) == 3


def test_a_label_counts_once_the_newest_one(bench: Bench):
    bench.take(product_record(3, "b", title="Changed, so it is judged again"))
    bench.take(pair(7, "red sofa", "b"))
    assert bench.lake.query("SELECT count(*) FROM labels") == [(5,)]
    assert TrainingSnapshot(bench.lake, until=UNTIL).count().pairs == 4


def test_pairs_whose_product_is_gone_are_counted(bench: Bench):
    bench.take(tombstone(3, "b"))
    training = TrainingSnapshot(bench.lake, until=UNTIL)
    assert training.count() == TrainingCounts(3, 2, 1)
    assert training_table(training).num_rows == 3


def test_the_count_is_known_before(lake: Lake):
    training = TrainingSnapshot(lake, until=UNTIL)
    assert training.count().pairs == training_table(training).num_rows


def test_features_of_a_lake_have_no_holes_but_prices(lake: Lake):
    table = features(TrainingSnapshot(lake, until=UNTIL))
    holes = {name for name, values in zip(table.names, table.values.T, strict=True) if np.isnan(values).any()}
    assert holes == {"price", "price_to_median"}
    prices = table.values[:, table.names.index("price")]
    assert prices[1] == pytest.approx(math.log(6.5))


@pytest.mark.parametrize("snapshot", [-1, 99])
def test_a_snapshot_that_does_not_exist_is_named_and_so_are_those_that_do(lake: Lake, snapshot: int):
    with pytest.raises(SettingsError, match=f"snapshot {snapshot}: the lake has 0 to {lake.snapshot}; name one"):
        TrainingSnapshot(lake, until=UNTIL, snapshot=snapshot)


@pytest.mark.parametrize("snapshot", [0, 1, 2])
def test_a_snapshot_without_labels_is_refused(lake: Lake, snapshot: int):
    training = TrainingSnapshot(lake, until=UNTIL, snapshot=snapshot)
    for read in (training.count, lambda: list(training.batches())):
        with pytest.raises(SettingsError, match=f"snapshot {snapshot} holds no labelled pair; stream a search log"):
            read()


def test_a_snapshot_whose_products_are_all_gone_is_refused(bench: Bench):
    bench.take(tombstone(3, "a"), tombstone(4, "b"), tombstone(5, "c"))
    with pytest.raises(SettingsError, match="no labelled pair \\(4 have lost their product\\)"):
        training_table(TrainingSnapshot(bench.lake, until=UNTIL))


def test_one_query_is_too_few(tmp_path: Path):
    with Bench(tmp_path) as bench:
        bench.take(product_record(0, "a"), product_record(1, "b"))
        bench.take(query(0, "q", "red sofa"), click(1, "q", "a"), click(2, "q", "b"))
        with pytest.raises(SettingsError, match=r"of one query only; .* at least 2"):
            TrainingSnapshot(bench.lake, until=UNTIL).count()


def test_a_new_lake_is_empty(tmp_path: Path):
    with Lake(lake_settings(tmp_path)) as lake:
        lake.commit(a_commit(0))
        with pytest.raises(SettingsError, match="holds no labelled pair"):
            training_table(TrainingSnapshot(lake, until=UNTIL))
