from __future__ import annotations

from pathlib import Path

import pytest
from lakes import a_commit, all_settings, product_rows
from stream import wait_until

from labelstream.actors import catalogue_follower as module
from labelstream.actors.catalogue_follower import CatalogueFollower
from labelstream.schemas.product import Product
from labelstream.schemas.settings import Settings
from labelstream.schemas.tables import PRODUCTS
from labelstream.streaming.ducklake import connect
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return all_settings(tmp_path)


def has(store: LocalStore, product_id: str) -> bool:
    with store.reader() as reader:
        return reader.product_by_id(product_id) is not None


def add(lake: Lake, first: int, product_id: str) -> None:
    lake.commit(a_commit(first, tables={PRODUCTS.name: product_rows(Product(product_id=product_id, title="sofa"))}))


def test_a_lake_that_appears_later_is_found_and_followed(settings: Settings, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    with LocalStore(settings.store.path, 64 << 20) as store, CatalogueFollower(settings, store, interval_s=0.02):
        wait_until(lambda: "no product can be asked for" in caplog.text)
        connect(settings.lake).close()  # a catalogue, and nothing in it
        wait_until(lambda: "the lake has no tables yet" in caplog.text)
        with Lake(settings.lake) as lake:
            add(lake, 0, "early")
            wait_until(lambda: has(store, "early"))
            add(lake, 1, "late")
            wait_until(lambda: has(store, "late"))


def test_it_ends_at_once_while_there_is_no_lake(settings: Settings):
    with LocalStore(settings.store.path, 64 << 20) as store:
        with CatalogueFollower(settings, store, interval_s=3600) as follower:
            pass
        assert not follower._thread.is_alive()


def test_an_error_that_nobody_thought_of_does_not_end_it(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    with Lake(settings.lake) as lake, LocalStore(settings.store.path, 64 << 20) as store:
        add(lake, 0, "early")
        errors = iter([ZeroDivisionError("a bug")])

        class StumblingLake(Lake):
            """Fails once in a way that nobody thought of."""

            @property
            def identity(self) -> str:
                for error in errors:
                    raise error
                return super().identity

        monkeypatch.setattr(module, "Lake", StumblingLake)
        with CatalogueFollower(settings, store, interval_s=0.02):
            wait_until(lambda: has(store, "early"))
