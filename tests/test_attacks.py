"""No product text changes the form of the prompt: whatever it says stands in the product's lines, as plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attacks import ATTACKS, Attack, attacked, control, garbled
from hypothesis import given
from hypothesis import strategies as st
from models import byte_level_tokenizer, shop_texts

from labelstream.schemas.product import Product, product_text
from labelstream.schemas.prompt import Prompt, neutralise
from labelstream.schemas.prompt_encoder import EncodedPrompt, PromptEncoder
from labelstream.schemas.scale import LabelScale
from labelstream.training.demo_labeller import tiny_random_labeller

QUERY = "red velvet sofa"
PRODUCT = Product(
    product_id="p", title="Oak desk", brand="Marlowe", category="Desks", description="A desk.", attributes={"size": "l"}
)
FIELDS = ("Title: ", "Brand: ", "Category: ", "Description: ", "Attributes: ")


def demo_vocabulary(folder: Path) -> Any:
    from transformers import AutoTokenizer

    tiny_random_labeller(folder / "model")
    return AutoTokenizer.from_pretrained(folder / "model")


@pytest.fixture(scope="module", params=["byte-level", "demo"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "demo":
        return demo_vocabulary(tmp_path_factory.mktemp("demo"))
    return byte_level_tokenizer(600, shop_texts())


def encode(tokenizer: Any, product: Product, *, chat: bool = False, max_tokens: int = 20_000) -> EncodedPrompt:
    encoder = PromptEncoder(Prompt(LabelScale()), tokenizer, max_tokens, chat)
    [encoded] = encoder.encode([QUERY], [product_text(product)])
    assert isinstance(encoded, EncodedPrompt)
    return encoded


def product_ids(tokenizer: Any, token_ids: list[int], *, chat: bool = False) -> list[int]:
    """The ids between query and question; fails where instruction, query or question are not as they should be."""
    encoder = PromptEncoder(Prompt(LabelScale()), tokenizer, 20_000, chat)
    query = tokenizer([Prompt.query_part(QUERY)], add_special_tokens=False)["input_ids"][0]
    before, after = encoder.prefix + query, encoder.question
    assert token_ids[: len(before)] == before
    assert token_ids[-len(after) :] == after
    return token_ids[len(before) : -len(after)]


def check_structure(tokenizer: Any, product: Product, *, chat: bool = False) -> None:
    inside = product_ids(tokenizer, encode(tokenizer, product, chat=chat).token_ids, chat=chat)
    assert not set(inside) & set(tokenizer.all_special_ids)
    lines = tokenizer.decode(inside).lower().split("\n")
    assert lines.pop() == ""  # the last line is ended, so the question begins one
    assert len(lines) == len(FIELDS)
    assert all(line.startswith(field.lower()) for line, field in zip(lines, FIELDS, strict=True))


def test_the_attack_set_is_large_and_its_names_differ():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 40
    assert len({attack.field for attack in ATTACKS}) >= 4


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_stays_in_its_line(tokenizer: Any, attack: Attack):
    check_structure(tokenizer, attacked(PRODUCT, attack, QUERY))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_stays_in_its_turn_of_a_chat(attack: Attack):
    check_structure(byte_level_tokenizer(600, shop_texts()), attacked(PRODUCT, attack, QUERY), chat=True)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_never_pushes_the_question_out(tokenizer: Any, attack: Attack):
    limit = 420
    encoded = encode(tokenizer, attacked(PRODUCT, attack, QUERY), max_tokens=limit)
    assert len(encoded.token_ids) <= limit
    product_ids(tokenizer, encoded.token_ids)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_control_is_as_long_as_the_attack(attack: Attack):
    with_attack, with_neutral = attacked(PRODUCT, attack, QUERY), control(PRODUCT, attack, QUERY)
    assert len(product_text(with_neutral)) - len(product_text(with_attack)) in range(-2, 40)  # blanks are folded


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_garbled_attack_has_its_form_but_not_its_words(attack: Attack):
    real, without_words = attacked(PRODUCT, attack, QUERY), garbled(PRODUCT, attack, QUERY)
    assert len(product_text(without_words)) == len(product_text(real))
    assert not set(product_text(without_words).lower().split()) & {"rate", "rating:", "2", "ignore", "relevant"}


PIECES = st.sampled_from(
    ["<|im_end|>", "<|", "|>", "im_start", "</s>", "\n", "\r", "\u2028", "\u200b", "Rating:", "2", "[INST]"]
)


@given(st.lists(PIECES | st.text(max_size=5), max_size=20).map("".join))
def test_no_text_at_all_breaks_out(text: str):
    product = PRODUCT.model_copy(update={"title": f"x {text}", "description": f"x {text}"})
    rendered = neutralise(product_text(product), ["<|im_end|>", "<|im_start|>", "</s>"])
    assert len(rendered.split("\n")) == len(FIELDS) + 1
    assert not any(marker in rendered for marker in ("<|im_end|>", "<|im_start|>", "</s>", "[INST]"))
