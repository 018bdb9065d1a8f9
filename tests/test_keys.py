from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.keys import JudgeVersion, label_key, normalise_query

anything = st.text(st.characters())  # lone surrogates too
parts = st.lists(anything, min_size=5, max_size=5)


def key_of(texts: list[str]) -> str:
    query, product_hash, *judge = texts
    return label_key(query, product_hash, JudgeVersion(*judge))


@given(anything)
def test_normalising_is_idempotent(query: str):
    assert normalise_query(normalise_query(query)) == normalise_query(query)


@given(anything)
def test_a_normalised_query_has_single_spaces_and_no_line_breaks(query: str):
    normalised = normalise_query(query)
    assert normalised == " ".join(normalised.split())


@pytest.mark.parametrize(
    ("query", "normalised"),
    [
        ("  Red \t SOFA\n", "red sofa"),
        ("ｓｏｆａ", "sofa"),
        ("STRASSE Straße", "strasse strasse"),
        ("cafe\u0301", "café"),
        ("\u00a0\u2003", ""),
        ("سرير", "سرير"),
    ],
)
def test_what_never_changes_the_meaning_is_folded(query: str, normalised: str):
    assert normalise_query(query) == normalised


@given(parts, st.integers(0, 4), anything)
def test_every_part_counts(texts: list[str], index: int, other: str):
    changed = [*texts]
    changed[index] = other
    assert (key_of(changed) == key_of(texts)) == (changed == texts)


@given(parts, st.integers(0, 3))
def test_text_that_moves_to_the_next_part_changes_the_key(texts: list[str], index: int):
    moved = [*texts]
    moved[index], moved[index + 1] = "", texts[index] + texts[index + 1]
    assert (key_of(moved) == key_of(texts)) == (moved == texts)


@given(parts)
def test_a_key_is_32_hexadecimal_digits(texts: list[str]):
    assert len(bytes.fromhex(key_of(texts))) == 16
