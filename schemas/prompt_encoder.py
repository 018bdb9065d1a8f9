"""From (query, product) to token ids, the same way in training and in serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from labelstream.schemas.errors import BadRecord, ModelUnusable, SettingsError
from labelstream.schemas.prompt import Prompt, neutralise

MIN_PRODUCT_TOKENS = 8
_CHAT_PLACEHOLDER = "labelstream-prompt-goes-here"


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that we use."""

    all_special_tokens: list[str]
    bos_token_id: int | None

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Any:
        """Ids of several texts, under the key ``input_ids``."""
        ...

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> Any:
        """Render a conversation as text."""
        ...


class EncodedPrompt(NamedTuple):
    """One prompt as token ids."""

    token_ids: list[int]
    shortened: bool


@dataclass(frozen=True)
class PlainTokens:
    """Makes token ids of text from outside, which is data: none of them is a special token.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
    """

    tokenizer: Tokenizer

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        return tuple(sorted({t for t in self.tokenizer.all_special_tokens if t}, key=len, reverse=True))

    def plain(self, text: str) -> str:
        """The text, neutralised for this tokenizer."""
        return neutralise(text, self._special_tokens)

    def one_line(self, text: str) -> str:
        """The text, neutralised and without line breaks."""
        return " ".join(self.plain(text).split())

    def ids_of_distinct(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts in which the same query or product comes again and again."""
        distinct = list(dict.fromkeys(texts))
        known = dict(zip(distinct, self.ids(distinct), strict=True))
        return [known[text] for text in texts]

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts as they are."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids


def no_room(query_tokens: int, max_tokens: int) -> BadRecord:
    """What becomes of a pair whose query leaves no room for a product."""
    return BadRecord(
        f"user_query: takes {query_tokens} tokens and leaves no room for a product in a prompt of "
        f"{max_tokens}; raise LABELSTREAM_PROMPT_MAX_TOKENS or send a shorter query",
        field="user_query",
    )


@dataclass(frozen=True)
class PromptEncoder:
    """Turns pairs into token ids.

    The rule when a prompt is too long: the product text is cut at its end (fields stand in order of what
    they tell), never the instruction, the query or the question.

    Args:
        prompt: The wording.
        tokenizer: A fast Hugging Face tokenizer.
        max_tokens: Longest prompt in tokens, the label token not counted.
        chat_template: Wrap the prompt in the tokenizer's chat template.
    """

    prompt: Prompt
    tokenizer: Tokenizer
    max_tokens: int
    chat_template: bool = False

    @cached_property
    def _frame(self) -> tuple[str, str]:
        """Text before and after the prompt: the chat template's, if one is used."""
        if not self.chat_template:
            return "", ""
        conversation = [{"role": "user", "content": _CHAT_PLACEHOLDER}]
        try:
            text = self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        except (ValueError, ImportError) as error:
            raise SettingsError(f"LABELSTREAM_PROMPT_CHAT_TEMPLATE=true, but: {error}") from error
        head, _, tail = str(text).partition(_CHAT_PLACEHOLDER)
        return head, tail

    @cached_property
    def _text(self) -> PlainTokens:
        return PlainTokens(self.tokenizer)

    @cached_property
    def prefix(self) -> list[int]:
        """Ids of the instruction, which all prompts share."""
        head = self._frame[0]
        begin = [] if head or self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        return begin + self._text.ids([head + self.prompt.instruction])[0]

    @cached_property
    def question(self) -> list[int]:
        """Ids of the end of the prompt."""
        return self._text.ids([self.prompt.question + self._frame[1]])[0]

    @cached_property
    def label_token_ids(self) -> tuple[int, ...]:
        """The id of each level's label token.

        Raises:
            ModelUnusable: A label is not exactly one token after this prompt, or two labels share one.
        """
        end = self.prompt.question + self._frame[1]
        found = []
        for label in self.prompt.scale.tokens:
            ids = self._text.ids([end + label])[0]
            if ids[:-1] != self.question:
                raise ModelUnusable(
                    f"the label {label!r} is not exactly one token after the prompt in this model's "
                    "vocabulary; choose a model whose tokenizer keeps digits apart"
                )
            found.append(ids[-1])
        if len(set(found)) != len(found) or self._unknown_id in found:
            raise ModelUnusable("this model's vocabulary does not have a token for each label digit")
        return tuple(found)

    @property
    def _unknown_id(self) -> int | None:
        return getattr(self.tokenizer, "unk_token_id", None)

    def encode(self, queries: Sequence[str], products: Sequence[str]) -> list[EncodedPrompt | BadRecord]:
        """Encode pairs.

        Args:
            queries: As typed; shape (pairs,).
            products: Rendered product texts (``product_text``); shape (pairs,).

        Returns:
            One entry a pair: the ids, or a ``BadRecord`` where the query leaves no room for a product.
        """
        lines = [self.prompt.query_part(self._text.one_line(query)) for query in queries]
        query_ids = self._text.ids_of_distinct(lines)
        product_ids = self._text.ids_of_distinct([self._text.plain(text) for text in products])
        return [self._assemble(query, product) for query, product in zip(query_ids, product_ids, strict=True)]

    def _assemble(self, query: list[int], product: list[int]) -> EncodedPrompt | BadRecord:
        room = self.max_tokens - len(self.prefix) - len(query) - len(self.question)
        if room < min(MIN_PRODUCT_TOKENS, len(product)):
            return no_room(len(query), self.max_tokens)
        if len(product) <= room:
            return EncodedPrompt(self.prefix + query + product + self.question, shortened=False)
        cut = product[: room - len(self._line_break)] + self._line_break
        return EncodedPrompt(self.prefix + query + cut + self.question, shortened=True)

    @cached_property
    def _line_break(self) -> list[int]:
        """Ends a product that was cut, so that the question still begins a line."""
        return self._text.ids(["\n"])[0]
