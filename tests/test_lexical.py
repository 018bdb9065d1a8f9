from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.http import InlineProduct
from labelstream.schemas.product import Product
from labelstream.streaming.importers import read_chorus_products
from labelstream.training.lexical import Document, FieldIndex, FieldStatistics, LexicalIndex, tokenise, whole_text

CATALOGUE = [
    Product(product_id="red", title="Red Sofa", brand="Ashby", description="A sofa, red all over."),
    Product(product_id="blue", title="Blue sofas, red legs", attributes={"Colour": "blue", "Model": "WH-1000XM4"}),
    Product(product_id="lamp", title="Lamp", category="Lighting"),
]
RED, BLUE, LAMP = CATALOGUE
words = st.lists(st.sampled_from(["red", "sofa", "blue", "lamp", "1000xm4", "nowhere"]), max_size=5).map(" ".join)


def lucene_bm25(query: list[str], documents: list[list[str]], k1: float = 1.2, b: float = 0.75) -> list[float]:
    """The textbook formula, with the inverse document frequency of Lucene."""
    average = sum(map(len, documents)) / len(documents)

    def score(document: list[str]) -> float:
        total = 0.0
        for token in query:
            containing = sum(token in other for other in documents)
            frequency = document.count(token)
            weight = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
            total += weight * frequency / (frequency + k1 * (1 - b + b * len(document) / average))
        return total

    return [score(document) for document in documents]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Red  SOFA", ["red", "sofa"]),
        ("Sony WH-1000XM4", ["sony", "wh", "1000xm4"]),
        ("sofas glasses glass bus gas 550s", ["sofa", "glasse", "glass", "bus", "gas", "550s"]),
        ("Straße ﬁt_on 1,5 m²", ["strasse", "fit", "on", "1", "5", "m2"]),
        ("…!", []),
    ],
)
def test_a_text_becomes_words_and_numbers(text: str, tokens: list[str]):
    assert tokenise(text) == tokens


@given(st.text() | st.lists(st.sampled_from(["glasses", "Sofas", "bss", "ﬁlms", "²"])).map(" ".join))
def test_tokens_are_tokens_already(text: str):
    tokens = tokenise(text)
    assert tokenise(" ".join(tokens)) == tokens


@given(words)
def test_bm25_is_that_of_the_textbook(query: str):
    statistics = LexicalIndex(CATALOGUE).statistics([query] * 3, CATALOGUE)
    for found, texts in (
        (statistics.bm25_title, [product.title for product in CATALOGUE]),
        (statistics.bm25_text, [whole_text(product) for product in CATALOGUE]),
    ):
        expected = lucene_bm25(tokenise(query), [tokenise(text) for text in texts])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@given(st.lists(st.tuples(words, st.sampled_from(CATALOGUE)), max_size=6))
def test_a_pair_has_the_same_statistics_in_any_company(pairs: list[tuple[str, Product]]):
    index = LexicalIndex(CATALOGUE)
    together = index.statistics([query for query, _ in pairs], [product for _, product in pairs])
    for number, (query, product) in enumerate(pairs):
        alone = index.statistics([query], [product])
        assert [column[number] for column in together] == [column[0] for column in alone]


def test_document_frequencies_are_those_of_the_catalogue_and_not_of_the_pairs():
    more = [*CATALOGUE, *(Product(product_id=str(n), title="Red chair") for n in range(20))]
    pair = (["red sofa"], [RED])
    small, large = LexicalIndex(CATALOGUE).statistics(*pair), LexicalIndex(more).statistics(*pair)
    assert large.bm25_title[0] > small.bm25_title[0]  # sofa has become rare, by more than red has become common


def test_what_a_person_would_count():
    statistics = LexicalIndex(CATALOGUE).statistics(["WH 1000XM4 v2", "red sofa", "sofa red"], [BLUE, RED, RED])
    assert statistics.query_tokens.tolist() == [3, 2, 2]
    assert statistics.title_tokens.tolist() == [4, 2, 2]
    assert statistics.text_tokens[1] == len(tokenise("Red Sofa Ashby A sofa, red all over."))
    assert statistics.query_share_in_title.tolist() == [0, 1, 1]
    assert statistics.query_share_in_text.tolist() == pytest.approx([2 / 3, 1, 1])
    assert statistics.phrase_in_title.tolist() == [0, 1, 0]
    assert statistics.number_tokens_found.tolist() == [1, 0, 0]
    assert statistics.number_tokens_missed.tolist() == [1, 0, 0]


def test_a_query_without_words_scores_nothing_and_divides_by_nothing():
    statistics = LexicalIndex(CATALOGUE).statistics(["?!"], [RED])
    assert [column.tolist() for column in statistics] == [[0], [0], [0], [2], [8], [0], [0], [0], [0], [0]]


def test_a_catalogue_without_words_scores_nothing():
    mute = Product(product_id="x", title="!!!")
    statistics = LexicalIndex([mute]).statistics(["red"], [mute])
    assert [column.tolist() for column in statistics] == [[0], [0], [1], *[[0]] * 7]


def test_no_pairs_have_no_statistics():
    assert all(len(column) == 0 for column in LexicalIndex(CATALOGUE).statistics([], []))


def test_the_later_of_two_products_with_one_id_counts():
    newer = Product(product_id="red", title="Green chair")
    twice, once = LexicalIndex([*CATALOGUE, newer]), LexicalIndex([newer, BLUE, LAMP])
    assert len(twice) == 3
    for query in ("green chair", "red sofa"):
        np.testing.assert_array_equal(twice.statistics([query] * 3, CATALOGUE), once.statistics([query] * 3, CATALOGUE))


@given(words)
def test_products_one_at_a_time_are_the_same_catalogue(query: str):
    streamed = LexicalIndex.of_unique(iter(CATALOGUE)).statistics([query] * 3, CATALOGUE)
    np.testing.assert_array_equal(streamed, LexicalIndex(CATALOGUE).statistics([query] * 3, CATALOGUE))


documents = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12), min_size=1, max_size=30)


@given(documents, st.lists(st.sampled_from("abcdefghxyz"), max_size=6))
def test_bm25_of_one_document_is_that_of_bm25s_to_the_last_bit(texts: list[list[str]], query: list[str]):
    """A tree's border is often the very value of a product: the least difference puts it on the other side."""
    statistics = FieldStatistics()
    for tokens in texts:
        statistics.add(tokens)
    found = statistics.bm25(query, [Document.of(tokens) for tokens in texts])
    np.testing.assert_array_equal(found, FieldIndex(" ".join(tokens) for tokens in texts).scores(query))


@given(words)
def test_a_product_that_the_catalogue_lacks_scores_as_its_twin_in_it(query: str):
    twin = RED.model_copy(update={"product_id": "elsewhere"})
    index = LexicalIndex(CATALOGUE)
    np.testing.assert_array_equal(index.statistics([query], [twin]), index.statistics([query], [RED]))


def test_a_word_that_the_catalogue_lacks_weighs_as_the_rarest_that_it_has():
    strangers = [InlineProduct(title=f"{word} chair") for word in ("zyx", "lamp", "red")]
    index = LexicalIndex(CATALOGUE)
    new, rare, common = (index.statistics([product.title], [product]).bm25_title[0] for product in strangers)
    assert new == rare > common > 0


def test_products_without_an_id_are_told_apart():
    strangers = [InlineProduct(title=title) for title in ("Red sofa", "Lamp")]
    statistics = LexicalIndex(CATALOGUE).statistics(["lamp"] * 2, strangers)
    assert statistics.phrase_in_title.tolist() == [0, 1]


def test_without_a_catalogue_the_counts_are_there_and_bm25_is_nothing():
    statistics = LexicalIndex([]).statistics(["red sofa"], [RED])
    assert (statistics.bm25_title.tolist(), statistics.bm25_text.tolist()) == ([0], [0])
    assert statistics.phrase_in_title.tolist() == [1]


def test_a_query_without_a_product_is_refused():
    with pytest.raises(ValueError, match="2 queries and 3 products"):
        LexicalIndex(CATALOGUE).statistics(["red", "blue"], CATALOGUE)


def test_the_chorus_catalogue_puts_what_was_asked_for_on_top(data_dir: Path):
    products = list(read_chorus_products(data_dir / "chorus" / "products.jsonl.gz"))[:3000]
    index = LexicalIndex(products)
    wanted = next(product for product in products if "toner" in product.title.lower())
    statistics = index.statistics([wanted.title] * len(products), products)
    assert products[int(statistics.bm25_title.argmax())].title == wanted.title
