"""Signals of a pair that need the whole catalogue, down to catalogues that hold next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import CATALOGUE, embed_words, one_thread, tiny_encoder

from labelstream.schemas.errors import ModelUnusable
from labelstream.schemas.product import Product
from labelstream.training.catalogue_index import CatalogueIndex
from labelstream.training.embedding import embedder

INDEX = CatalogueIndex(CATALOGUE, embed_words)
COLUMNS = INDEX.signals("red scarf", np.arange(3)).shape[1]
EVERYTHING = np.arange(len(CATALOGUE))
QUERIES = st.sampled_from(
    ["red wool scarf", "Kettles", "acme", "", "  ", "zzyzx qwrt", "🦆", "\x00", "1 2 3", "a" * 500]
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@given(QUERIES, st.lists(st.integers(0, len(CATALOGUE) - 1), min_size=1, max_size=20))
def test_a_pair_has_the_same_signals_whoever_stands_beside_it(query: str, rows: list[int]):
    found = INDEX.signals(query, np.array(rows))
    assert found.shape == (len(rows), COLUMNS)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, INDEX.signals(query, EVERYTHING)[rows], atol=1e-9)


def test_no_rows_have_no_signals():
    assert INDEX.signals("red scarf", np.array([], np.int64)).shape == (0, COLUMNS)


def test_the_best_product_by_title_is_first_in_rank_and_nobody_is_better_than_itself():
    product = CATALOGUE[0]
    scores = INDEX._scores(product.title)
    assert {name: int(np.argmax(score)) for name, score in scores.items() if name != "category"} == dict.fromkeys(
        ("named", "whole", "title", "text", "description"), 0
    )
    first = INDEX.signals(product.title, EVERYTHING)[0]
    ranks = [first[4 * number + 3] for number, name in enumerate(scores) if name != "category"]
    assert ranks == [0] * 5


@given(QUERIES, st.integers(0, 2**32 - 1))
def test_candidates_are_a_dozen_different_products_by_the_seed(query: str, seed: int):
    first, second = (INDEX.candidates(query, np.random.default_rng(seed)) for _ in range(2))
    assert first.tolist() == second.tolist() == sorted(set(first.tolist()))
    assert 11 <= len(first) <= 12
    assert 0 <= first[0] <= first[-1] < len(CATALOGUE)


def test_some_of_the_best_are_among_the_candidates():
    best = set(np.argsort(-INDEX._mixed(INDEX._scores("red wool scarf")))[:10].tolist())
    assert len(best & set(INDEX.candidates("red wool scarf", np.random.default_rng(1)).tolist())) >= 4


def test_words_that_the_catalogue_does_not_have_match_nothing():
    scores = INDEX._scores("zzyzx qwrt")
    assert not scores["title"].any()
    assert not scores["text"].any()
    assert not scores["description"].any()


def product(number: int, title: str = "lamp", category: str = "") -> Product:
    return Product(product_id=str(number), title=title, category=category)


@pytest.mark.parametrize(
    "products",
    [
        pytest.param([product(1)], id="one"),
        pytest.param([product(1, "!!!")], id="one without a word"),
        pytest.param([product(number) for number in range(3)], id="all alike"),
        pytest.param([product(1), product(2, "sofa", "Sofas"), product(3, "rug", "   ")], id="a category or none"),
        pytest.param([product(1, "a" * 3000, "b" * 3000), product(2, "!")], id="one is long"),
    ],
)
@settings(max_examples=10)
@given(query=QUERIES | st.just("lamp"))
def test_small_and_odd_catalogues(products: list[Product], query: str):
    index = CatalogueIndex(products, embed_words)
    rows = np.arange(len(products))
    found = index.signals(query, rows)
    assert found.shape == (len(products), COLUMNS)
    assert np.isfinite(found).all()
    assert index.candidates(query, np.random.default_rng(1)).tolist() == rows.tolist()
    assert [index.row_of[one.product_id] for one in products] == rows.tolist()


class TestEmbedder:
    def test_vectors_are_unit_vectors_of_the_first_tokens(self, tmp_path: Path):
        embed = embedder(tiny_encoder(tmp_path), max_tokens=16)
        texts = ["red wool scarf", "a kettle of steel", "KETTLE", "red " * 16, "red " * 16 + "kettle"]
        vectors = embed(texts)
        assert vectors.dtype == np.float32
        assert vectors.shape == (5, 64)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(vectors[3], vectors[4], atol=1e-5)
        assert np.abs(vectors[0] - vectors[1]).max() > 0.01
        np.testing.assert_allclose(embed([texts[1]]), vectors[1:2], atol=1e-5)

    @pytest.mark.parametrize("content", [None, "", "{}"])
    def test_what_is_no_model_is_named(self, tmp_path: Path, content: str | None):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(ModelUnusable, match="--embedder"):
            embedder(tmp_path if content is not None else tmp_path / "nowhere")
