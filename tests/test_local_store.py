from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import count, islice
from pathlib import Path

import pytest
from patience import TIMEOUT

from labelstream.schemas.errors import SettingsError, StoreFull
from labelstream.streaming.known_label import KnownLabel
from labelstream.streaming.known_product import KnownProduct
from labelstream.streaming.local_store import LocalStore, StoreWriter

SIZE = 64 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(tmp_path / "store", SIZE) as store:
        yield store


def put(store: LocalStore, *products: KnownProduct) -> None:
    with store.writer() as writer:
        writer.put_products(products)


def known_label(label_key: str) -> KnownLabel:
    return KnownLabel(label_key, (0.25, 0.75), False, datetime(2026, 1, 2, 3, 4, 5, 678901, UTC))


def find(store: LocalStore, reference: str) -> KnownProduct | None:
    with store.reader() as reader:
        return reader.product_by_id(reference) or reader.product_by_id(reader.owner_of(reference) or reference)


@pytest.mark.parametrize("text", ["", "a\x00b", "😀 سرير", "x" * 100_000])
def test_any_text_comes_back(store: LocalStore, text: str):
    product = KnownProduct("id" + text, "hash", text, ("ean" + text,))
    put(store, product)
    with store.writer() as writer:
        writer.put_queries([("q" + text, text)])
    assert find(store, "id" + text) == find(store, "ean" + text) == product
    with store.reader() as reader:
        assert reader.query("q" + text) == text
        assert reader.query("other") is None


def test_an_own_id_comes_before_an_alternative_id(store: LocalStore):
    put(store, KnownProduct("a", "h", "t", ("b",)), KnownProduct("b", "h", "t"))
    assert find(store, "b").product_id == "b"


def test_an_alternative_id_can_move_and_go(store: LocalStore):
    put(store, KnownProduct("a", "h", "t", ("x", "y")))
    put(store, KnownProduct("b", "h", "t", ("x",)))
    assert find(store, "x").product_id == "b"
    put(store, KnownProduct("a", "h", "t"))
    assert find(store, "x").product_id == "b"
    assert find(store, "y") is None


def test_a_deleted_product_is_gone_with_its_alternative_ids(store: LocalStore):
    put(store, KnownProduct("a", "h", "t", ("x",)))
    with store.writer() as writer:
        writer.delete_products(["a", "never there"])
    assert find(store, "a") is find(store, "x") is None


def test_an_error_takes_everything_back(store: LocalStore):
    def put_and_fail() -> None:
        with store.writer() as writer:
            writer.put_labels([known_label("00" * 16)])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        put_and_fail()
    with store.reader() as reader:
        assert not reader.has_label("00" * 16)


def test_clearing_forgets_everything(store: LocalStore):
    put(store, KnownProduct("a", "h", "t", ("x",)))
    with store.writer() as writer:
        writer.put_labels([known_label("00" * 16)])
        writer.set_position("lake", 7)
        writer.clear()
    with store.reader() as reader:
        assert (reader.counts(), reader.position) == ({"products": 0, "queries": 0, "labels": 0}, None)


def test_a_reader_keeps_its_view(store: LocalStore):
    with store.reader() as reader:
        put(store, KnownProduct("a", "h", "t"))
        assert reader.product_by_id("a") is None
    assert find(store, "a") is not None


def test_the_next_start_finds_what_was_there(tmp_path: Path):
    with LocalStore(tmp_path / "store", SIZE) as store, store.writer() as writer:
        writer.set_position("lake", 7)
    with LocalStore(tmp_path / "store", SIZE) as store, store.reader() as reader:
        assert reader.position == ("lake", 7)


def test_two_processes_share_the_store(store: LocalStore, tmp_path: Path):
    script = """
import sys
from pathlib import Path
from labelstream.streaming.local_store import LocalStore
with LocalStore(Path(sys.argv[1]), 64 << 20) as store:
    with store.reader() as reader:
        print(reader.has_label("aa" * 16))
    with store.writer() as writer:
        writer.put_queries([("q", "red sofa")])
"""
    with store.writer() as writer:
        writer.put_labels([known_label("aa" * 16)])
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "store")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr
    with store.reader() as reader:
        assert reader.query("q") == "red sofa"


def test_a_full_store_names_its_setting_and_stays_usable(tmp_path: Path):
    with LocalStore(tmp_path / "store", 1 << 20) as store:
        put(store, KnownProduct("a", "h", "t"))
        with pytest.raises(SettingsError, match="LABELSTREAM_STORE_MAX_BYTES"):
            put(store, KnownProduct("big", "h", "x" * (2 << 20)))
        assert find(store, "a") is not None
        assert find(store, "big") is None


def test_a_broken_file_says_that_it_may_be_deleted(tmp_path: Path):
    (tmp_path / "data.mdb").write_bytes(b"not a store" * 1000)
    with pytest.raises(SettingsError, match=r"LABELSTREAM_STORE_PATH.*may be deleted"):
        LocalStore(tmp_path, SIZE)


def test_a_folder_that_cannot_be_made_names_its_setting(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"LABELSTREAM_STORE_PATH.*Not a directory"):
        LocalStore(tmp_path / "file" / "store", SIZE)


def test_a_label_is_looked_up_within_a_hundred_microseconds(store: LocalStore):
    keys = [f"{number:032x}" for number in range(50_000)]
    with store.writer() as writer:
        writer.put_labels(map(known_label, keys[::2]))
    times = []
    with store.reader() as reader:
        for number in range(5000):
            started = time.perf_counter()
            found = reader.has_label(keys[number * 7])
            times.append(time.perf_counter() - started)
            assert found == (number % 2 == 0)
    assert statistics.median(times) < 100e-6


def test_a_label_comes_back_whole(store: LocalStore):
    scored = known_label("aa" * 16)._replace(cross_encoder_score=0.5, cross_encoder_version="v1", shortened=True)
    with store.writer() as writer:
        writer.put_labels([scored])
        writer.put_answers([known_label("bb" * 16)])
    with store.reader() as reader:
        assert reader.label("aa" * 16) == scored
        assert reader.label("bb" * 16) == known_label("bb" * 16)
        assert reader.label("cc" * 16) is None


def test_an_answer_is_not_a_label_of_the_lake(store: LocalStore):
    with store.writer() as writer:
        writer.put_answers([known_label("bb" * 16)])
    with store.reader() as reader:
        assert not reader.has_label("bb" * 16)


def answers(numbers: Iterable[int]) -> list[KnownLabel]:
    return [known_label(f"{number:032x}") for number in numbers]


def known(store: LocalStore, numbers: Iterable[int]) -> list[int]:
    with store.reader() as reader:
        return [number for number in numbers if reader.label(f"{number:032x}") is not None]


def test_answers_keep_to_their_share_and_the_oldest_go_first(tmp_path: Path):
    rounds = [range(first, first + 2000) for first in range(0, 100_000, 2000)]
    with LocalStore(tmp_path, 8 << 20) as store:
        for numbers in rounds:
            with store.writer() as writer:
                writer.put_answers(answers(numbers))
        with store.reader() as reader:
            assert not reader.is_crowded
        kept = [number for numbers in rounds for number in known(store, numbers)]
    assert kept == list(range(kept[0], 100_000)), "what is left is the newest"
    assert 2000 < len(kept) < 20_000


def test_a_newer_answer_replaces_one_of_the_generation_before(tmp_path: Path):
    scored = known_label("00" * 16)._replace(cross_encoder_score=0.5, cross_encoder_version="v1")
    with LocalStore(tmp_path, 8 << 20) as store:
        for labels in (answers(range(8000)), answers(range(8000, 8001)), [scored]):
            with store.writer() as writer:
                writer.put_answers(labels)
        with store.reader() as reader:
            assert reader.label("00" * 16) == scored
            assert reader.label(f"{1:032x}") is not None


def test_an_answer_that_the_lake_has_by_now_is_not_kept_twice(store: LocalStore):
    with store.writer() as writer:
        writer.put_answers(answers(range(10)))
        writer.put_labels(answers(range(4, 100)))
    with store.reader() as reader:
        left = sum(reader._transaction.stat(database)["entries"] for database in store._answers.databases)
    assert (left, known(store, range(100))) == (4, list(range(100)))


def test_answers_leave_what_room_there_is_to_the_lake(tmp_path: Path):
    def is_crowded() -> bool:
        with store.reader() as reader:
            return reader.is_crowded

    numbers = count()
    with LocalStore(tmp_path, 16 << 20) as store:
        with store.writer() as writer:
            writer.put_answers(answers(range(10)))
        while not is_crowded():
            assert known(store, range(20)) == list(range(10))
            put(store, *some_products(numbers))
        put(store, *some_products(numbers))  # now also without the answers
        with pytest.raises(StoreFull, match="LABELSTREAM_STORE_MAX_BYTES"), store.writer() as writer:
            writer.put_answers(answers(range(10, 20)))
        put(store, KnownProduct("last", "h", "t"))
        assert known(store, range(20)) == []
        assert find(store, "0") is not None


def some_products(numbers: Iterator[int]) -> list[KnownProduct]:
    return [KnownProduct(str(number), "h", "x" * 1000) for number in islice(numbers, 20)]


@pytest.mark.parametrize("at_once", [1, 40, 400])
def test_answers_never_keep_the_lake_out(tmp_path: Path, at_once: int):
    """As many products fit in as into a store that has no answers, give or take what one transaction needs."""

    def fill(folder: Path, first_answers: int) -> int:
        with LocalStore(folder, 4 << 20) as store:
            for first in range(0, first_answers, 500):
                with store.writer() as writer:
                    writer.put_answers(answers(range(first, first + 500)))
            for first in range(0, 10_000, at_once):
                products = [KnownProduct(str(number), "h", "x" * 1000) for number in range(first, first + at_once)]
                try:
                    store.follow(partial(StoreWriter.put_products, products=products))
                except StoreFull:
                    return first
        raise AssertionError("it is never full")

    alone, beside_answers = fill(tmp_path / "alone", 0), fill(tmp_path / "beside", 20_000)
    assert alone >= 1000
    assert beside_answers >= alone - max(at_once, alone // 20)


def test_a_view_that_is_open_for_a_moment_longer_holds_the_lake_up_and_not_out(tmp_path: Path):
    with LocalStore(tmp_path, 1 << 20) as store:
        with store._environment.begin(write=True) as transaction:
            for number in range(10_000):
                store._answers.put(transaction, number.to_bytes(16, "big"), b"x" * 60)
        closing, opened = threading.Event(), threading.Event()

        def look() -> None:
            with store.reader():
                opened.set()
                assert closing.wait(TIMEOUT)

        def put_products(writer: StoreWriter) -> None:
            tries.append(1)
            if len(tries) == 3:  # after the first with the answers gone
                closing.set()
            writer.put_products(KnownProduct(str(number), "h", "x" * 1000) for number in range(100))

        tries: list[int] = []
        looking = threading.Thread(target=look)
        looking.start()
        assert opened.wait(TIMEOUT)
        store.follow(put_products)
        looking.join()
        assert find(store, "99") is not None
