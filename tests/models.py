"""Tiny models with random weights, made on the spot: real architecture, real files, no download."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SPECIAL_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>")
_COLOURS = ("red", "blue", "green", "black", "white", "grey", "brown", "pink")
_THINGS = ("sofa", "chair", "table", "lamp", "desk", "shelf", "bed", "rug", "mirror", "stool")
_MATERIALS = ("oak", "steel", "leather", "glass", "linen", "velvet", "pine", "marble")


def shop_texts() -> list[str]:
    """A few hundred lines in the words of a shop, every one different."""
    return [
        f"Title: {colour} {material} {thing}\nCategory: {thing}\nDescription: A {colour} {thing} of {material}.\n"
        for colour, material, thing in product(_COLOURS, _MATERIALS, _THINGS)
    ]


def byte_level_tokenizer(vocabulary: int, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that keeps digits and line breaks apart, as current LLMs' tokenizers do."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n|\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL_TOKENS[0],
        eos_token=SPECIAL_TOKENS[1],
        pad_token=SPECIAL_TOKENS[1],
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        chat_template=(
            "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
    )


def tiny_llama(folder: Path, *, vocabulary: int = 600, hidden: int = 64, layers: int = 2, seed: int = 7) -> Path:
    """Write a Llama with random weights and its tokenizer.

    Args:
        folder: Where to; made if it is not there.
        vocabulary: Entries of the tokenizer at most.
        hidden: Width; heads are 32 wide.
        layers: Depth.
        seed: Same seed, same weights.

    Returns:
        The folder.
    """
    import torch

    tokenizer = byte_level_tokenizer(vocabulary, shop_texts())
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=max(vocabulary, len(tokenizer)),
        hidden_size=hidden,
        intermediate_size=hidden * 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.1,  # wide enough that different prompts get visibly different answers
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_adapter(base: Path, folder: Path, *, seed: int = 11) -> Path:
    """Write a LoRA adapter for ``base`` that visibly changes its answers."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=64, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model: Any = get_peft_model(LlamaForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at the start of a training: an adapter that changes nothing
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


def word_piece_tokenizer(positions: int) -> PreTrainedTokenizerFast:
    """A tokenizer like BERT's, with the words of the shop, and every letter for all others."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words: dict[str, None] = {}
    for text in shop_texts():
        words |= dict.fromkeys(word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text.lower()))
    letters = [chr(code) for code in range(33, 127)]
    entries = [*BERT_TOKENS, *letters, *(f"##{letter}" for letter in letters), *words]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    pieces = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = {f"{token[1:-1].lower()}_token": token for token in BERT_TOKENS}
    return PreTrainedTokenizerFast(tokenizer_object=pieces, model_max_length=positions, **names)


def tiny_cross_encoder(
    folder: Path, *, labels: int = 1, positions: int = 128, equal_types: bool = False, seed: int = 3
) -> Path:
    """Write a BERT with random weights and a classification head, and its tokenizer.

    Args:
        folder: Where to; made if it is not there.
        labels: Outputs of the head.
        positions: Longest input in tokens.
        equal_types: Make nothing of token types, as the classifiers that we tune.
        seed: Same seed, same weights.

    Returns:
        The folder.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = word_piece_tokenizer(positions)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=positions,
        num_labels=labels,
        initializer_range=0.2,  # wide enough that different pairs get visibly different answers
    )
    model = BertForSequenceClassification(config)
    if equal_types:
        types = model.bert.embeddings.token_type_embeddings.weight.data
        types[1] = types[0]
    model.save_pretrained(folder)
    return folder


def tiny_classifier(folder: Path, *, labels: int = 3, seed: int = 3) -> Path:
    """Write a BERT that can judge for the labeller and for the cross-encoder alike."""
    return tiny_cross_encoder(folder, labels=labels, positions=512, equal_types=True, seed=seed)
