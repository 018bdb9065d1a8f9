"""From (query, product) to the token ids of an encoder classifier, the same way in training and in serving."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from labelstream.schemas.errors import BadRecord, ModelUnusable
from labelstream.schemas.prompt_encoder import MIN_PRODUCT_TOKENS, EncodedPrompt, PlainTokens, Tokenizer, no_room

# Token types are part of it: vLLM has only one for plain token ids, so training and every other user send that too.
FORMAT = "[CLS] query on one line [SEP] product [SEP], all of token type 0"


class SegmentTokenizer(Tokenizer, Protocol):
    """The part of an encoder's Hugging Face tokenizer that we use."""

    cls_token_id: int | None
    sep_token_id: int | None


@dataclass(frozen=True)
class PairEncoder:
    """Turns pairs into ``[CLS] query [SEP] product [SEP]``, the format of BERT's sentence pairs.

    Query and product are two segments that no text from outside can end (Devlin et al. 2019, arXiv 1810.04805,
    section 3.1); unlike there, both have token type 0. A product that is too long is cut at its end, never the query.

    Args:
        tokenizer: A fast Hugging Face tokenizer with a classification and a separator token.
        max_tokens: Longest input in tokens, special tokens counted.

    Raises:
        ModelUnusable: The tokenizer has no such tokens, as those of causal language models.
    """

    tokenizer: SegmentTokenizer
    max_tokens: int

    def __post_init__(self) -> None:
        for token in ("cls_token", "sep_token"):
            if getattr(self.tokenizer, f"{token}_id", None) is None:
                raise ModelUnusable(f"a classifier reads {FORMAT}, but its tokenizer has no {token}; use a BERT")

    @property
    def format_version(self) -> str:
        """Content hash of what all inputs of classifiers have in common, whatever their length."""
        return hashlib.sha256(FORMAT.encode()).hexdigest()[:12]

    @property
    def version(self) -> str:
        """Format and length: the prompt version of the labels of this kind of judge."""
        return f"{self.format_version}-{self.max_tokens}"

    @cached_property
    def _text(self) -> PlainTokens:
        return PlainTokens(self.tokenizer)

    def encode(self, queries: Sequence[str], products: Sequence[str]) -> list[EncodedPrompt | BadRecord]:
        """Encode pairs.

        Args:
            queries: As typed; shape (pairs,).
            products: Rendered product texts (``product_text``); shape (pairs,).

        Returns:
            One entry a pair: the ids, or a ``BadRecord`` where the query leaves no room for a product.
        """
        query_ids = self._text.ids_of_distinct([self._text.one_line(query) for query in queries])
        product_ids = self._text.ids_of_distinct([self._text.plain(text) for text in products])
        return [self._assemble(query, product) for query, product in zip(query_ids, product_ids, strict=True)]

    def _assemble(self, query: list[int], product: list[int]) -> EncodedPrompt | BadRecord:
        begin, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        assert begin is not None
        assert end is not None
        room = self.max_tokens - len(query) - 3
        if room < min(MIN_PRODUCT_TOKENS, len(product)):
            return no_room(len(query), self.max_tokens)
        return EncodedPrompt([begin, *query, end, *product[:room], end], shortened=len(product) > room)
