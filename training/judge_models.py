"""The models that can be tuned into a judge: load a base, save what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from labelstream.schemas.errors import BadRecord, ModelUnusable
from labelstream.schemas.pair_encoder import PairEncoder
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.prompt_encoder import EncodedPrompt, PromptEncoder
from labelstream.schemas.scale import LabelScale
from labelstream.training.fine_tuning import FineTuneSettings, Judge

Kind = Literal["generative", "classifier"]
Encode = Callable[[Sequence[str], Sequence[str]], list[EncodedPrompt | BadRecord]]

_GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


class TrainableJudge(NamedTuple):
    """A base model, ready to be tuned.

    Attributes:
        judge: The model and how its answer is read.
        encode: Queries and product texts to token ids, as serving does it.
        tokenizer: Saved with the model.
        prompt_version: Goes into the card; a model is only ever asked what it was tuned on.
        max_tokens: Longest input.
        kind: What answers.
    """

    judge: Judge
    encode: Encode
    tokenizer: PreTrainedTokenizerBase
    prompt_version: str
    max_tokens: int
    kind: Kind


def kind_of(folder: Path) -> Kind:
    """What a base can become: a causal LM stays one, an encoder gets a classification head.

    Raises:
        ModelUnusable: No configuration that transformers can read.
    """
    config = _config(folder)
    causal = any(str(name).endswith(_GENERATIVE) for name in config.architectures or ())
    return "generative" if causal else "classifier"


def _config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError, KeyError) as error:
        raise ModelUnusable(f"--base {folder}: transformers cannot read its configuration: {error}") from error


def load_judge(folder: Path, scale: LabelScale, settings: FineTuneSettings) -> TrainableJudge:
    """Load a base.

    Args:
        folder: A causal LM, or an encoder with or without a head.
        scale: One answer a level.
        settings: Its ``seed`` gives the new weights; ``layers`` and ``lora_rank`` say what there is to tune: a LoRA
            adapter (Hu et al. 2021, arXiv 2106.09685) goes to all linear layers.

    Raises:
        ModelUnusable: It cannot be loaded, is too small, or its vocabulary has no token for a label.
    """
    kind = kind_of(folder)
    _check_size(folder, kind, settings)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with _quiet(), torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            model = _load_model(folder, kind, scale, settings)
    except (ValueError, RuntimeError, OSError, KeyError, ImportError, SafetensorError) as error:
        raise ModelUnusable(f"--base {folder}: transformers cannot load it: {error}") from error
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    if kind == "classifier":
        pairs = PairEncoder(tokenizer, settings.max_tokens)
        return TrainableJudge(
            Judge(model, None, pad), pairs.encode, tokenizer, pairs.format_version, settings.max_tokens, kind
        )
    prompts = PromptEncoder(Prompt(scale), tokenizer, settings.max_tokens, settings.chat_template)
    judge = Judge(model, prompts.label_token_ids, pad)
    return TrainableJudge(judge, prompts.encode, tokenizer, prompts.prompt.version, settings.max_tokens, kind)


def _check_size(folder: Path, kind: Kind, settings: FineTuneSettings) -> None:
    """Layers that a base has not would be random, and want of positions would show in the midst of a step."""
    config = _config(folder)
    layers = getattr(config, "num_hidden_layers", None)
    if layers and settings.layers > layers:
        raise ModelUnusable(f"--layers {settings.layers}: {folder} has {layers}; keep fewer, or 0 for all")
    positions = getattr(config, "max_position_embeddings", None)
    # The answer of a causal LM is a token too; RoBERTa counts from the padding token's number on.
    padding = int(config.pad_token_id or 0) + 1 if "roberta" in str(config.model_type) else 0
    taken = 1 if kind == "generative" else padding
    if positions and settings.max_tokens > positions - taken:
        raise ModelUnusable(
            f"--max-tokens {settings.max_tokens}: {folder} has {positions} positions; set {positions - taken} or less"
        )


def _load_model(folder: Path, kind: Kind, scale: LabelScale, settings: FineTuneSettings) -> PreTrainedModel:
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True, "use_safetensors": True}
    options["output_loading_info"] = True
    # Frozen weights need no more precision than they were saved with.
    options["dtype"] = torch.bfloat16 if settings.lora_rank and torch.cuda.is_available() else torch.float32
    if settings.layers:
        options["num_hidden_layers"] = settings.layers
    auto: Any = AutoModelForCausalLM if kind == "generative" else AutoModelForSequenceClassification
    if kind == "classifier":
        names = dict(enumerate(scale.levels))
        options |= {"num_labels": len(names), "id2label": names, "label2id": {name: i for i, name in names.items()}}
        options["ignore_mismatched_sizes"] = True  # a head for another number of levels
    model, found = auto.from_pretrained(folder, **options)
    _refuse_random(folder, model, found)
    if settings.dropout is not None:
        _set_dropout(model, settings.dropout)
    if settings.freeze_words:
        model.get_input_embeddings().requires_grad_(False)
    if settings.lora_rank:
        rank, task = settings.lora_rank, "CAUSAL_LM" if kind == "generative" else "SEQ_CLS"
        model = get_peft_model(
            model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=task)
        )
    return cast(PreTrainedModel, model)


def _set_dropout(model: Any, share: float) -> None:
    """Some families have a module for it everywhere, others a number where attention reads it."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        if isinstance(getattr(module, "attention_dropout", None), float | int):
            module.attention_dropout = share


def _refuse_random(folder: Path, model: Any, found: dict[str, Any]) -> None:
    """Only a head may be new: transformers makes up all weights that it does not find, and goes on."""
    names = [name if isinstance(name, str) else name[0] for name in (*found["missing_keys"], *found["mismatched_keys"])]
    lost = sorted(name for name in names if name.startswith(f"{model.base_model_prefix}.") and "pooler" not in name)
    if lost:
        raise ModelUnusable(
            f"--base {folder}: its weights are not those of its config.json, {len(lost)} are missing, such as "
            f"{lost[0]}; save the model again"
        )


def save_judge(trained: TrainableJudge, folder: Path, *, merge: bool) -> None:
    """Save as safetensors what serving loads.

    Args:
        trained: Tuned.
        folder: Exists and is empty.
        merge: Work a LoRA adapter into its base; without it the adapter alone is saved.
    """
    model: Any = trained.judge.model
    with _quiet():
        if isinstance(model, PeftModel) and merge:
            model = model.merge_and_unload()
        if not isinstance(model, PeftModel):
            _share_token_type(model)
        model.save_pretrained(folder)
        trained.tokenizer.save_pretrained(folder)


@torch.no_grad()
def _share_token_type(model: PreTrainedModel) -> None:
    """Make all token types equal to the one that is trained, 0.

    Libraries for cross-encoders give the second text type 1; so they get the same answers as vLLM, which has 0 only.
    """
    embeddings: Any = getattr(model.base_model, "embeddings", None)
    types = getattr(embeddings, "token_type_embeddings", None)
    if types is not None:
        types.weight[1:] = types.weight[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """A new head is no news: keep reports and bars of milliseconds off the terminal."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
