from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakes import a_commit, label_rows, lake_settings, product_rows, query_rows

from labelstream.schemas.product import Product
from labelstream.streaming.commit import Commit
from labelstream.streaming.follow import apply_commit, catch_up
from labelstream.streaming.known_product import KnownProduct
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.maintenance import compact
from labelstream.streaming.product_rows import product_of
from labelstream.streaming.records import Known

SIZE = 64 << 20
texts = st.text(max_size=20)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(lake_settings(tmp_path)) as lake:
        yield lake


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(tmp_path / "store", SIZE) as store:
        yield store


def product(product_id: str, title: str = "Sofa", *aliases: str) -> Product:
    return Product(product_id=product_id, title=title, alternative_ids=list(aliases), attributes={"a": "\x00é"})


def fill(lake: Lake) -> None:
    """A history with everything in it: products changed and deleted, an alternative id moved."""
    first = product_rows(product("a", "A", "x"), product("b", "B"), product("c"), product("d", "D", "z"))
    tables = {"products": first, "queries": query_rows("q1"), "labels": label_rows(1)}
    lake.commit(a_commit(0, tables=tables))
    lake.commit(a_commit(1, tables={"products": product_rows(product("a", "A2"))}, deleted_products=["c"]))
    lake.commit(a_commit(2, tables={"products": product_rows(product("b", "B2", "x"))}))
    lake.commit(a_commit(3, tables={"queries": query_rows("q2", text="\x00😀"), "labels": label_rows(2, 3)}))
    lake.commit(a_commit(4, deleted_products=["d"]))
    lake.commit(a_commit(5, tables={"products": product_rows(product("d", "D2"))}))


def check(store: LocalStore, lake: Lake) -> None:
    with store.reader() as reader:
        assert reader.counts() == {"products": 3, "queries": 3, "labels": 3}
        assert [Known(reader, ()).product(r) for r in "abcdxz"] == [
            KnownProduct.of(product("a", "A2")),
            KnownProduct.of(product("b", "B2", "x")),
            None,
            KnownProduct.of(product("d", "D2")),
            KnownProduct.of(product("b", "B2", "x")),
            None,
        ]
        assert reader.owner_of("z") is None
        assert (reader.query("q1"), reader.query("q2")) == ("red sofa", "\x00😀")
        assert all(reader.has_label(f"{key:032x}") for key in (1, 2, 3))
        assert reader.position == (lake.identity, lake.snapshot)


def test_an_empty_store_is_filled(lake: Lake, store: LocalStore):
    fill(lake)
    assert catch_up(store, lake) == lake.snapshot
    check(store, lake)


def test_a_store_that_missed_commits_catches_up(lake: Lake, store: LocalStore):
    catch_up(store, lake)
    fill(lake)
    catch_up(store, lake)
    check(store, lake)


def test_a_store_that_follows_step_by_step_is_the_same(lake: Lake, store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    real, catch_up_after = lake.commit, []

    def commit_and_follow(commit: Commit) -> bool:
        real(commit)
        catch_up_after.append(catch_up(store, lake))
        return True

    monkeypatch.setattr(lake, "commit", commit_and_follow)
    fill(lake)
    check(store, lake)
    assert len(catch_up_after) == 6


def test_a_lost_store_is_rebuilt(lake: Lake, tmp_path: Path):
    fill(lake)
    for _ in range(2):
        with LocalStore(tmp_path / "lost", SIZE) as store:
            catch_up(store, lake)
            check(store, lake)
        shutil.rmtree(tmp_path / "lost")


def test_the_store_of_another_lake_is_rebuilt(lake: Lake, store: LocalStore, tmp_path: Path):
    with Lake(lake_settings(tmp_path / "other")) as other:
        other.commit(a_commit(0, tables={"products": product_rows(product("stranger"))}))
        catch_up(store, other)
    fill(lake)
    catch_up(store, lake)
    check(store, lake)


@pytest.mark.parametrize("keep_days", [30, 0])
def test_a_store_catches_up_over_a_compaction(lake: Lake, store: LocalStore, keep_days: float):
    lake.commit(a_commit(0, tables={"products": product_rows(product("old"))}))
    catch_up(store, lake)
    lake.commit(a_commit(1, deleted_products=["old"], tables={}))
    lake.query("DELETE FROM consumed")
    lake.query("DELETE FROM offsets")
    fill(lake)
    list(compact(lake, keep_days))
    catch_up(store, lake)
    check(store, lake)


def test_nothing_new_costs_no_write(lake: Lake, store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    newest = catch_up(store, lake)
    monkeypatch.setattr(store, "writer", None)
    assert catch_up(store, lake) == newest


def test_a_commit_can_be_applied_without_the_lake(store: LocalStore):
    commit = a_commit(0, tables={"products": product_rows(product("a", "A", "x")), "labels": label_rows(1)})
    with store.writer() as writer:
        apply_commit(writer, commit)
    with store.reader() as reader:
        assert Known(reader, ()).product("x") == KnownProduct.of(product("a", "A", "x"))
        assert reader.has_label(f"{1:032x}")


@given(texts.filter(str.strip), texts, st.dictionaries(texts, texts, max_size=3))
def test_a_row_of_the_table_is_the_same_product(title: str, brand: str, attributes: dict[str, str]):
    made = Product(product_id="p", title=title, brand=brand, attributes=attributes, alternative_ids=["x"])
    [row] = product_rows(made).to_pylist()
    assert KnownProduct.of(product_of(row)) == KnownProduct.of(made)
    assert row["product_hash"] == made.hash
