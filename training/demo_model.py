"""The demo labeller's network: its shape, its two losses and its training loop.

A plain loop instead of the ``transformers`` Trainer: the instruction that all prompts share is computed once a
step, and the losses look at chosen positions only, so that little of the Trainer would be left.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.prompt_encoder import PromptEncoder
from labelstream.schemas.scale import Floats
from labelstream.training.demo_pairs import DemoPair
from labelstream.training.progress import with_bar

LEARNING_RATE = 3e-3
_EVALUATION_BATCH = 250
# Of a product's tokens about one in twenty is a word of the query.
_SEEN_WEIGHT = 5.0


def new_model(tokenizer: PreTrainedTokenizerFast, *, max_tokens: int) -> LlamaForCausalLM:
    """An untrained Llama of some 180,000 parameters, in float32.

    Three layers, because the task takes three steps: which part of the prompt a word stands in, whether the
    query has that word, and what follows for the product as a whole.

    Args:
        tokenizer: Gives the size of the vocabulary and the special tokens.
        max_tokens: Longest prompt and answer together.
    """
    config = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,  # the smallest that vLLM's attention on the CPU takes
        max_position_embeddings=max_tokens,
        tie_word_embeddings=True,
        initializer_range=0.1,  # near 1/√hidden; the usual 0.02 is for wide models and learns half as fast here
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]


class _Batch(NamedTuple):
    """Prompts without the instruction.

    Attributes:
        ids: Token ids, padded on the right; shape (pairs, tokens).
        query_end: Position of the line break that ends the query; shape (pairs,).
        last: Position of the last token, which the label follows; shape (pairs,).
        labels: Id of the true label token; shape (pairs,).
    """

    ids: Tensor
    query_end: Tensor
    last: Tensor
    labels: Tensor


def _batch(encoder: PromptEncoder, pairs: list[DemoPair]) -> _Batch:
    encoded = encoder.encode([pair.query for pair in pairs], [pair.product_text for pair in pairs])
    start, line_break = len(encoder.prefix), encoder.question[-1]
    prompts = [prompt.token_ids[start:] for prompt in encoded if not isinstance(prompt, BadRecord)]
    return _Batch(
        ids=pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True),
        query_end=torch.tensor([prompt.index(line_break) for prompt in prompts]),
        last=torch.tensor([len(prompt) - 1 for prompt in prompts]),
        labels=torch.tensor([encoder.label_token_ids[pair.level] for pair in pairs]),
    )


def _hidden_states(model: LlamaForCausalLM, encoder: PromptEncoder, batch: _Batch) -> Tensor:
    """Last layer's states after the instruction, shape (pairs, tokens, hidden).

    The instruction's keys and values are computed once and shared, gradients included. Padding needs no mask:
    it stands at the end, where causal attention hides it from everything that is looked at.
    """
    cache = model.model(input_ids=torch.tensor([encoder.prefix]), use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(batch.ids))
    states: Tensor = model.model(input_ids=batch.ids, past_key_values=cache, use_cache=True).last_hidden_state
    return states


def _label_logits(model: LlamaForCausalLM, states: Tensor, batch: _Batch) -> Tensor:
    """Logits of the whole vocabulary where the label is due, shape (pairs, vocabulary)."""
    logits: Tensor = model.lm_head(states[torch.arange(len(states)), batch.last])
    return logits


def _seen_loss(seen_head: nn.Linear, states: Tensor, batch: _Batch) -> Tensor:
    """Auxiliary loss: each token of the product says whether the query holds it too.

    The label alone teaches comparison slowly: one weak signal a prompt. This gives forty, costs one column of
    weights that is thrown away after training, and needs no truth beyond the prompt itself.
    """
    position = torch.arange(batch.ids.shape[1])
    in_query = position < batch.query_end[:, None]
    in_product = (position > batch.query_end[:, None]) & (position <= batch.last[:, None])
    seen = ((batch.ids[:, :, None] == batch.ids[:, None, :]) & in_query[:, None, :]).any(dim=-1)
    return nn.functional.binary_cross_entropy_with_logits(
        seen_head(states).squeeze(-1)[in_product], seen[in_product].float(), pos_weight=torch.tensor(_SEEN_WEIGHT)
    )


def train(
    model: LlamaForCausalLM, encoder: PromptEncoder, pairs: Iterator[DemoPair], *, steps: int, batch_pairs: int
) -> None:
    """Train in place, with a progress bar: AdamW, one cycle of the learning rate, loss on the label token.

    Prompts differ little in length, so batches are taken as they come.

    Args:
        model: In float32.
        encoder: The one that serving uses.
        pairs: An endless supply.
        steps: Number of batches, at least 1.
        batch_pairs: Pairs of one batch.
    """
    seen_head = nn.Linear(model.config.hidden_size, 1)
    weights = [*model.parameters(), *seen_head.parameters()]
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1)
    model.train()
    for _ in with_bar(range(steps), "Training the demo labeller"):
        batch = _batch(encoder, list(islice(pairs, batch_pairs)))
        states = _hidden_states(model, encoder, batch)
        label_loss = nn.functional.cross_entropy(_label_logits(model, states, batch), batch.labels)
        optimizer.zero_grad()
        torch.autograd.backward(label_loss + _seen_loss(seen_head, states, batch))
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
    model.train(mode=False)


@torch.inference_mode()
def label_log_probabilities(model: LlamaForCausalLM, encoder: PromptEncoder, pairs: list[DemoPair]) -> Floats:
    """Raw log-probabilities of the label tokens over the whole vocabulary, as vLLM reports them.

    Returns:
        Shape (pairs, levels).
    """
    found = []
    for start in range(0, len(pairs), _EVALUATION_BATCH):
        batch = _batch(encoder, pairs[start : start + _EVALUATION_BATCH])
        logits = _label_logits(model, _hidden_states(model, encoder, batch), batch)
        found.append(logits.float().log_softmax(dim=-1)[:, list(encoder.label_token_ids)])
    return np.asarray(torch.cat(found).double().numpy())
