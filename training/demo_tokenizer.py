"""The demo labeller's own vocabulary, learned from demo prompts."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

BEGIN, END, PAD = "<s>", "</s>", "<pad>"
MAX_VOCABULARY = 2048

# Each digit alone (labels are digits), each line break alone (the prompt's parts are encoded one by one),
# a word or a run of marks with the space before it, other white space.
_PIECES = Regex(r"\p{N}|\n| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s")


def train_demo_tokenizer(prompts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE: common words become one token, and no text is ever unknown.

    Args:
        prompts: Whole prompts (``Prompt.text``).

    Returns:
        A fast tokenizer that lower-cases; it has begin, end and padding tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        min_frequency=2,
        special_tokens=[BEGIN, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(prompts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD
    )
