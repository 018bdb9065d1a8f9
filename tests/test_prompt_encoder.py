from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import SPECIAL_TOKENS, byte_level_tokenizer, shop_texts

from labelstream.schemas.errors import BadRecord, ModelUnusable
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.prompt_encoder import PromptEncoder
from labelstream.schemas.scale import LabelScale

PROMPT = Prompt(LabelScale())
TOKENIZER = byte_level_tokenizer(600, shop_texts())
ENCODER = PromptEncoder(PROMPT, TOKENIZER, 511)
SOFA = "Title: red oak sofa\nCategory: home > sofa\n"
anything = st.text(max_size=40) | st.lists(st.sampled_from((*SPECIAL_TOKENS, "\n", "Rating:", "sofa")), max_size=6).map(
    "".join
)


def encode(query: str, product: str, encoder: PromptEncoder = ENCODER):
    [encoded] = encoder.encode([query], [product])
    return encoded


def test_the_tokens_are_those_of_the_whole_text():
    whole = TOKENIZER([PROMPT.text("red sofa", SOFA)], add_special_tokens=False)["input_ids"][0]
    assert encode("red sofa", SOFA) == ([TOKENIZER.bos_token_id, *whole], False)


@given(anything, anything)
def test_no_text_from_outside_becomes_a_special_token(query: str, product: str):
    encoded = encode(query, f"Title: {product}\n")
    special = set(TOKENIZER.all_special_ids)
    assert not special & set(encoded.token_ids[1:])


@given(anything)
def test_a_query_is_one_line(query: str):
    text = TOKENIZER.decode(encode(query, SOFA).token_ids[len(ENCODER.prefix) :])
    assert text.splitlines()[-3:] == [*SOFA.splitlines(), "Rating:"]
    assert text.count("\n") == 4


@given(st.integers(0, 400))
def test_shortening_takes_from_the_product_alone(words: int):
    product = f"Title: sofa\nDescription: {'velvet ' * words}\n"
    limit = len(ENCODER.prefix) + 60
    encoder = PromptEncoder(PROMPT, TOKENIZER, limit)
    token_ids, shortened = encode("red sofa", product, encoder)
    whole = encode("red sofa", product, PromptEncoder(PROMPT, TOKENIZER, 100_000)).token_ids
    assert len(token_ids) <= limit
    assert shortened == (len(whole) > limit)
    assert token_ids[-len(encoder.question) :] == encoder.question
    kept = token_ids[: -len(encoder.question)]
    if shortened:  # the question begins a line all the same
        assert TOKENIZER.decode(kept[-1:]) == "\n"
        kept = kept[:-1]
    assert kept == whole[: len(kept)]


def test_a_query_that_leaves_no_room_is_a_bad_record():
    error = encode("sofa " * 600, SOFA)
    assert isinstance(error, BadRecord)
    assert error.field == "user_query"
    assert "LABELSTREAM_PROMPT_MAX_TOKENS" in str(error)


def test_one_bad_pair_leaves_the_others_alone():
    good, bad, again = ENCODER.encode(["sofa", "sofa " * 600, "sofa"], [SOFA] * 3)
    assert isinstance(bad, BadRecord)
    assert good == again == encode("sofa", SOFA)


def test_no_pairs_are_no_prompts():
    assert ENCODER.encode([], []) == []


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_each_label_is_one_token_of_its_own(levels: int):
    scale = LabelScale(levels=("bad", "poor", "fair", "good", "best")[:levels])
    ids = PromptEncoder(Prompt(scale), TOKENIZER, 511).label_token_ids
    assert TOKENIZER.convert_ids_to_tokens(ids) == list(scale.tokens)


def test_a_tokenizer_that_glues_labels_to_the_prompt_is_unusable():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    with pytest.raises(ModelUnusable, match=r"label|vocabulary"):
        _ = PromptEncoder(PROMPT, tokenizer, 511).label_token_ids


def test_the_chat_template_goes_around_the_prompt():
    encoder = PromptEncoder(PROMPT, TOKENIZER, 511, chat_template=True)
    text = TOKENIZER.decode(encode("sofa", SOFA, encoder).token_ids)
    assert text == f"<|im_start|>user\n{PROMPT.text('sofa', SOFA)}<|im_end|>\n<|im_start|>assistant\n"
    assert len(encoder.label_token_ids) == 3
