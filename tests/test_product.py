from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_messages import junk

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.messages import parse_product
from labelstream.schemas.product import MAX_ATTRIBUTES_SHOWN, Product, product_of_text, product_text


def read(**fields: object) -> Product:
    return parse_product(json.dumps({"product_id": "p", "title": "Sofa"} | fields).encode())


@given(st.dictionaries(st.sampled_from(list(Product.model_fields)), junk))
def test_junk_is_a_bad_record_and_nothing_worse(value: Any):
    with contextlib.suppress(BadRecord):
        parse_product(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("given", "identifier"),
    [
        (7, "7"),
        (10**30, "1" + "0" * 30),
        (12345678.0, "12345678"),
        (12345678.5, "12345678.5"),
        ("é", "é"),
        (True, "yes"),
    ],
)
def test_numbers_are_ids_without_loss(given: object, identifier: str):
    product = read(product_id=given, alternative_ids=[given], attributes={"a": given})
    assert (product.product_id, product.alternative_ids, product.attributes) == (
        identifier,
        [identifier],
        {"a": identifier},
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"product_id": ""}, "product_id"),
        ({"product_id": None}, "product_id"),
        ({"product_id": "a\0b"}, "product_id"),
        ({"attributes": {"a\0": []}}, "attributes.a "),
        ({"title": ""}, "title"),
        ({"title": " \n\u2028"}, "title"),
        ({"title": float("nan")}, "title"),
        ({"price": float("inf")}, "price"),
        ({"price": -1}, "price"),
        ({"price": "cheap"}, "price"),
        ({"attributes": {"a": {"b": 1}}}, "attributes.a"),
        ({"attributes": []}, "attributes"),
        ({"alternative_ids": "123"}, "alternative_ids"),
        ({"alternative_ids": ["1", ""]}, "alternative_ids.1"),
        ({"updated_at": "0001-01-01T00:00:00+14:00"}, "updated_at"),
        ({"updated_at": "9999-12-31T23:59:59-01:00"}, "updated_at"),
        ({"updated_at": "yesterday"}, "updated_at"),
    ],
)
def test_the_error_names_the_field(fields: dict[str, Any], field: str):
    with pytest.raises(BadRecord) as caught:
        read(**fields)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_a_time_without_zone_is_utc():
    assert read(updated_at="2024-06-05T10:00:00").updated_at == datetime(2024, 6, 5, 10, tzinfo=UTC)


def test_a_nul_in_a_text_is_a_space():
    product = read(title="a\0b", attributes={"colour": "\0"})
    assert (product.title, product.attributes) == ("a b", {"colour": " "})


def test_unknown_fields_are_kept():
    assert read(colour={"deep": [1]}).colour == {"deep": [1]}


def test_ten_thousand_levels_of_nesting_are_a_bad_record():
    with pytest.raises(BadRecord, match="recursion"):
        parse_product(b'{"attributes":' * 10_000 + b"1" + b"}" * 10_000)


def test_the_text_has_one_field_a_line_and_leaves_out_empty_ones():
    product = read(
        brand=" ", category="home > sofas", description="Two\nseats", attributes={"colour": "red", "legs": 4}
    )
    assert product_text(product) == (
        "Title: Sofa\nCategory: home > sofas\nDescription: Two seats\nAttributes: colour: red; legs: 4\n"
    )


titles = st.text(min_size=1).filter(lambda title: title.replace("\0", " ").strip())
words = st.text("ab:; \n\x1e\u2028")


@given(titles, st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_no_field_can_look_like_two(title: str, description: str, attributes: dict[str, str]):
    product = Product(product_id="p", title=title, description=description, attributes=attributes)
    lines = product_text(product).splitlines()
    names = [line.partition(": ")[0] for line in lines]
    assert names == [name for name in ("Title", "Description", "Attributes") if name in names]


@given(titles | words.filter(str.strip), words, words, words, st.dictionaries(words, words))
def test_a_product_of_a_text_has_that_text(
    title: str, brand: str, category: str, description: str, attributes: dict[str, str]
):
    fields = {"brand": brand, "category": category, "description": description, "attributes": attributes}
    text = product_text(read(title=title, **fields))
    product = product_of_text("p1", text)
    assert (product.product_id, product_text(product)) == ("p1", text)


@given(st.text(), st.text())
def test_the_hash_follows_what_the_models_see(one: str, other: str):
    first, second = (Product(product_id="p", title="t", description=text) for text in (one, other))
    assert (first.hash == second.hash) == (product_text(first) == product_text(second))


def test_price_time_and_later_attributes_do_not_change_the_hash():
    many = {f"a{i}": "x" for i in range(MAX_ATTRIBUTES_SHOWN)}
    assert read(attributes=many).hash == read(attributes=many | {"z": "y"}, price=7, updated_at=1717581600).hash
