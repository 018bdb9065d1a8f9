from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lakes import MOMENT, Bench, click, filled_lake, lake_settings, product_record, query, tombstone

from labelstream.actors.past_engagement import PastEngagement
from labelstream.actors.ranking_context import Catalogue, RankingContext, read_context
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product
from labelstream.streaming.lake import Lake
from labelstream.training.lexical import LexicalIndex
from labelstream.training.ranking_data import TrainingSnapshot

DAY = MOMENT.date()
TOMORROW = DAY + timedelta(days=1)
QUERIES = ["red sofa", "lamp", "oak table", "never asked"]
IDS = ["a", "b", "c", "gone", "unheard of"]


def fill(bench: Bench) -> Bench:
    """Three products, one of them with other ids, one that is deleted, and clicks on all."""
    bench.take(
        product_record(
            0, "a", title="Red sofa", price=99, attributes={"Colour": "red"}, alternative_ids=["ean-1", "b"]
        ),
        product_record(1, "b", title="Lamp"),
        product_record(2, "c", title="Oak table", alternative_ids=["ean-3"]),
        product_record(3, "gone"),
    )
    bench.take(*(query(number, f"q{number}", text) for number, text in enumerate(QUERIES[:3])))
    clicks = [("q0", "a"), ("q0", "a"), ("q0", "b"), ("q1", "b"), ("q2", "c"), ("q2", "a"), ("q2", "gone")]
    bench.take(*(click(3 + number, *pair) for number, pair in enumerate(clicks)))
    bench.take(tombstone(4, "gone"))
    return bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        yield fill(bench)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with filled_lake(tmp_path_factory.mktemp("lake"), fill) as lake:
        yield lake


def read(lake: Lake, until: date = TOMORROW, before: RankingContext | None = None) -> RankingContext:
    return read_context(lake._settings, until, before or RankingContext.empty())


pairs = st.tuples(st.sampled_from(QUERIES), st.lists(st.sampled_from(IDS), max_size=8))


@settings(max_examples=20)
@given(st.lists(pairs, min_size=1, max_size=3), st.sampled_from([DAY, TOMORROW]))
def test_the_past_is_that_of_training(lake: Lake, asked: list[tuple[str, list[str]]], until: date):
    past, training = PastEngagement.read(lake, lake.snapshot, until), TrainingSnapshot(lake, until=until)
    for text, ids in asked:
        found, expected = past.history(text.upper(), ids), training.history([text] * len(ids), ids)
        assert found.until == expected.until
        np.testing.assert_array_equal(found.pair, expected.pair)
        np.testing.assert_array_equal(found.product, expected.product)


def test_the_day_itself_does_not_count(lake: Lake):
    yesterday, today = read(lake, DAY).engagement, read(lake, TOMORROW).engagement
    assert (len(yesterday), len(today)) == (0, 6)
    assert today.history("red sofa", ["a"]).pair[0, 1] == 2


def test_a_product_is_found_by_its_own_id_and_by_others(lake: Lake):
    catalogue = read(lake).catalogue
    found = catalogue.find(["ean-1", "b", "c", "ean-1", "gone", "a"])
    assert {one: product.product_id for one, product in found.items()} == {"ean-1": "a", "b": "b", "c": "c", "a": "a"}
    training = {product.product_id: product for product in TrainingSnapshot(lake, until=DAY).products()}
    assert found["a"] == training["a"]
    assert found["a"].attributes == {"Colour": "red"}
    assert (len(catalogue), catalogue.find([])) == (3, {})


def test_the_words_are_those_of_training(lake: Lake):
    products = list(TrainingSnapshot(lake, until=DAY).products())
    strangers = [*products, Product(product_id="x", title="Red oak lamp")]
    asked = ["red oak table"] * len(strangers)
    expected = LexicalIndex(products).statistics(asked, strangers)
    np.testing.assert_array_equal(read(lake).catalogue.index.statistics(asked, strangers), expected)


def test_what_has_not_changed_is_not_read_again(bench: Bench):
    first = read(bench.lake)
    assert read(bench.lake, before=first) is first
    bench.take(click(10, "q1", "c"))
    second = read(bench.lake, before=first)
    assert (second.snapshot, first.snapshot) == (bench.lake.snapshot, bench.lake.snapshot - 1)
    assert second.catalogue is first.catalogue
    assert len(second.engagement) == len(first.engagement) + 1
    bench.take(product_record(5, "d", title="New chair"))
    third = read(bench.lake, before=second)
    assert list(third.catalogue.find(["d"])) == ["d"]
    assert second.catalogue.find(["d"]) == {}


def test_other_ids_alone_are_a_change_too(bench: Bench):
    first = read(bench.lake)
    bench.take(product_record(5, "c", title="Oak table", alternative_ids=["ean-4"]))
    assert list(read(bench.lake, before=first).catalogue.find(["ean-3", "ean-4"])) == ["ean-4"]


def test_another_day_is_a_change_too(lake: Lake):
    first = read(lake, DAY)
    second = read(lake, TOMORROW, first)
    assert (second.snapshot, second.until) == (first.snapshot, TOMORROW)
    assert len(second.engagement) > len(first.engagement)


def test_a_lake_without_rows_is_an_empty_shop(tmp_path: Path):
    Lake(lake_settings(tmp_path)).close()
    context = read_context(lake_settings(tmp_path), DAY, RankingContext.empty())
    assert context.snapshot is not None
    assert (len(context.catalogue), len(context.engagement)) == (0, 0)
    history = context.engagement.history("red sofa", ["a", ""])
    assert (history.pair.tolist(), history.product.tolist()) == ([[0] * 4] * 2, [[0] * 4] * 2)


def test_without_a_lake_there_is_nothing_and_an_error_that_names_the_remedy(tmp_path: Path):
    empty = RankingContext.empty()
    assert (empty.snapshot, len(empty.catalogue), empty.catalogue.find(["a"])) == (None, 0, {})
    with pytest.raises(SettingsError, match="start one with: labelstream run"):
        read_context(lake_settings(tmp_path), DAY, empty)


def test_an_empty_catalogue_is_one(lake: Lake):
    assert len(Catalogue.empty()) == 0
    assert len(Catalogue.read(lake, lake.snapshot, Catalogue.empty())) == 3
