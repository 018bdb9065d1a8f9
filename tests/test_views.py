"""What the views say of pairs, texts and judgements that do not go one to one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lakes import Bench, click, lake_settings, pair, product_record, query
from standins import uniform

from labelstream.streaming.lake import Lake
from labelstream.streaming.views import VIEWS

LATEST = "SELECT product_id, level FROM labels_latest ORDER BY product_id"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        yield bench


def judged(bench: Bench, offset: int, text: str, level: int) -> None:
    """A new text of the sofa, and what a judge says of it."""
    bench.take(product_record(offset, "p", title=text))
    batch = bench.prepare(pair(offset, "red sofa", "p"))
    said = uniform(len(batch.pairs))
    if len(batch.pairs):
        said.probabilities[:] = 0.0
        said.probabilities[:, level] = 1.0
    bench.writer.commit(bench.finish(batch, said))


def test_products_of_one_text_share_its_judgement_for_what_they_were_shown_for(bench: Bench):
    for offset, size in enumerate("sml"):
        bench.take(product_record(offset, size, title="Sofa, red, three sizes"))
    bench.take(query(0, "q", "red sofa"), click(1, "q", "s"), click(2, "q", "m"), click(3, "q", "m"))
    assert bench.lake.query("SELECT product_id FROM labels") == [("s",)]
    assert [product for product, _ in bench.lake.query(LATEST)] == ["m", "s"]
    found = bench.lake.query("SELECT product_id, title, clicks FROM labelled_pairs ORDER BY product_id")
    assert found == [("m", "Sofa, red, three sizes", 2), ("s", "Sofa, red, three sizes", 1)]
    before = bench.lake.snapshot
    bench.take(query(4, "q2", "red sofa"), click(5, "q2", "l"))
    assert [product for product, _ in bench.lake.query(LATEST)] == ["l", "m", "s"]
    then = f"SELECT product_id FROM labels_latest AT (VERSION => {before}) ORDER BY product_id"
    assert bench.lake.query(then) == [("m",), ("s",)]


def test_a_text_that_comes_back_has_its_own_judgement_again(bench: Bench):
    judged(bench, 0, "Sofa, red", 2)
    judged(bench, 1, "BUY NOW", 0)
    assert bench.lake.query(LATEST) == [("p", "irrelevant")]
    judged(bench, 2, "Sofa, red", 1)  # known: nobody is asked
    assert bench.lake.query(LATEST) == [("p", "high")]
    bench.take(product_record(3, "p", title="A text that nobody has judged"))
    assert bench.lake.query("SELECT count(*) FROM labels_latest") == [(1,)]


def test_a_lake_of_an_older_version_gets_the_views_of_this_one(tmp_path: Path):
    settings = lake_settings(tmp_path)
    with Lake(settings) as lake:
        lake.execute("CREATE OR REPLACE VIEW labels_latest AS SELECT * FROM lake.main.labels")
        old = lake.snapshot
    for opened in (old + 1, old + 1):  # and once is enough
        with Lake(settings) as lake:
            assert lake.snapshot == opened
            [(text,)] = lake.query("SELECT sql FROM duckdb_views() WHERE view_name = 'labels_latest'")
            assert "product_hash" in text
            names = lake.query("SELECT view_name FROM duckdb_views() WHERE NOT internal")
            assert sorted(name for (name,) in names) == sorted(VIEWS)
