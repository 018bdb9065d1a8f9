from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import BERT_TOKENS, byte_level_tokenizer, shop_texts, word_piece_tokenizer

from labelstream.schemas.errors import BadRecord, ModelUnusable
from labelstream.schemas.pair_encoder import PairEncoder
from labelstream.schemas.prompt_encoder import EncodedPrompt

TOKENIZER = word_piece_tokenizer(512)
ENCODER = PairEncoder(TOKENIZER, 511)
CLS, SEP = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id
SOFA = "Title: red oak sofa\nCategory: home > sofa\n"
pieces = st.sampled_from((*BERT_TOKENS, "[cls]", "[S[SEP]EP]", "\n", "sofa", "[", "]", "\x00"))
anything = st.text(max_size=40) | st.lists(pieces, max_size=6).map("".join)


def encode(query: str, product: str, encoder: PairEncoder = ENCODER) -> EncodedPrompt:
    [encoded] = encoder.encode([query], [product])
    assert isinstance(encoded, EncodedPrompt)
    return encoded


def segments(token_ids: list[int]) -> tuple[list[int], list[int]]:
    """Query and product; the shape itself is checked on the way."""
    middle = token_ids.index(SEP)
    assert token_ids[0] == CLS
    assert token_ids[-1] == SEP
    return token_ids[1:middle], token_ids[middle + 1 : -1]


def test_the_tokens_are_those_of_the_tokenizers_own_pairs():
    assert encode("red sofa", SOFA) == (TOKENIZER("red sofa", SOFA)["input_ids"], False)


@given(anything, anything)
def test_no_text_from_outside_ends_a_segment(query: str, product: str):
    special = set(TOKENIZER.all_special_ids) - {TOKENIZER.unk_token_id}  # what the vocabulary does not have is unknown
    for segment in segments(encode(query, product).token_ids):
        assert not special & set(segment)


@given(st.lists(st.sampled_from(["red", "sofa", "\n", "\t", "\r\n", "\u2028", " "]), max_size=8).map(" ".join))
def test_a_query_is_one_line(query: str):
    assert encode(query, SOFA) == encode(" ".join(query.replace("\u2028", " ").split()), SOFA)


@given(st.integers(0, 120), st.integers(0, 40), st.integers(16, 128))
def test_shortening_takes_from_the_end_of_the_product_alone(product_words: int, query_words: int, limit: int):
    query, product = "red " * query_words, "velvet oak " * product_words
    [encoded] = PairEncoder(TOKENIZER, limit).encode([query], [product])
    whole_query, whole_product = segments(encode(query, product, PairEncoder(TOKENIZER, 100_000)).token_ids)
    room = limit - 3 - len(whole_query)
    if isinstance(encoded, BadRecord):
        assert room < min(8, len(whole_product))
        return
    kept_query, kept_product = segments(encoded.token_ids)
    assert kept_query == whole_query
    assert kept_product == whole_product[:room]
    assert encoded.shortened == (len(whole_product) > room)
    assert len(encoded.token_ids) <= limit


def test_a_query_that_leaves_no_room_is_a_bad_record_and_leaves_the_others_alone():
    good, bad, again = ENCODER.encode(["sofa", "sofa " * 600, "sofa"], [SOFA] * 3)
    assert isinstance(bad, BadRecord)
    assert bad.field == "user_query"
    assert "LABELSTREAM_PROMPT_MAX_TOKENS" in str(bad)
    assert good == again == encode("sofa", SOFA)


def test_no_pairs_are_no_inputs():
    assert ENCODER.encode([], []) == []


def test_the_version_tells_lengths_apart_and_formats_not_by_length():
    short = PairEncoder(TOKENIZER, 128)
    assert short.version != ENCODER.version
    assert short.format_version == ENCODER.format_version
    assert short.version == PairEncoder(word_piece_tokenizer(128), 128).version, "the tokenizer is part of the model"


def test_a_tokenizer_without_separators_is_unusable():
    with pytest.raises(ModelUnusable, match="cls_token"):
        PairEncoder(byte_level_tokenizer(400, shop_texts()), 511)
