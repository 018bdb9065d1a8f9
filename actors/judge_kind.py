"""The two kinds of judge, and whether a model can be one with these settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from labelstream.actors.engine_thread import Engine
from labelstream.actors.vllm_classifier import VllmClassifier
from labelstream.actors.vllm_engine import VllmEngine
from labelstream.schemas.errors import ModelUnusable, SettingsError
from labelstream.schemas.model_card import ModelCard
from labelstream.schemas.model_folder import read_json
from labelstream.schemas.pair_encoder import PairEncoder
from labelstream.schemas.prompt import Prompt
from labelstream.schemas.prompt_encoder import PromptEncoder
from labelstream.schemas.scale import LabelScale
from labelstream.schemas.settings import Settings

MODEL = "LABELSTREAM_LABELLER_MODEL"
# Architectures that predict a next token; the last is how Hugging Face names those that also take pictures.
_GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_CLASSIFYING = "ForSequenceClassification"


class JudgeKind(NamedTuple):
    """What one kind of judge does in its own way.

    Attributes:
        encoder: From pairs to token ids.
        prompt_version: Content hash of the prompt, then a dash and what else can change an answer.
        load: Makes the engine.
    """

    encoder: PromptEncoder | PairEncoder
    prompt_version: str
    load: Callable[[], Engine]


def judge_kind(settings: Settings, folder: Path, card: ModelCard) -> JudgeKind:
    """Which kind of judge a model is, by the architecture that its ``config.json`` names; loads no weights.

    Args:
        settings: Where ``labeller``, ``prompt`` and ``scale`` matter.
        folder: The model.
        card: Its card, or that of its adapter.

    Raises:
        ModelUnusable: It is of neither kind, or was made for another scale, prompt or length.
        SettingsError: A chat template that there is not.
    """
    settings, config = _cut_as_tuned(settings, card), read_json(folder / "config.json", setting=MODEL)
    classifies = is_classifier(config)
    if not classifies:
        _check_generates(config, folder)
    _check_length(config, folder, settings.prompt.max_tokens)
    check_levels(card, settings.scale, setting=MODEL)
    kind = _classifier(settings, folder) if classifies else _generative(settings, folder)
    _check_prompt(card, kind.prompt_version)
    return kind


def _cut_as_tuned(settings: Settings, card: ModelCard) -> Settings:
    """No prompt longer than those that the model was tuned on: it has never seen what stands behind."""
    longest = settings.prompt.max_tokens
    if card.max_tokens is None or card.max_tokens >= longest:
        return settings
    return settings.model_copy(update={"prompt": settings.prompt.model_copy(update={"max_tokens": card.max_tokens})})


def _generative(settings: Settings, folder: Path) -> JudgeKind:
    prompt, chat = Prompt(settings.scale), settings.prompt.chat_template
    encoder = PromptEncoder(prompt, _load_tokenizer(folder), settings.prompt.max_tokens, chat)
    label_token_ids = encoder.label_token_ids
    version = f"{prompt.version}{'-chat' if chat else ''}-{settings.prompt.max_tokens}"
    return JudgeKind(encoder, version, lambda: VllmEngine(settings, folder, label_token_ids))


def _classifier(settings: Settings, folder: Path) -> JudgeKind:
    outputs, levels = _outputs(folder), len(settings.scale.levels)
    if outputs != levels:
        raise ModelUnusable(
            f"{MODEL}={folder} is a classifier with {outputs} outputs, but LABELSTREAM_SCALE_LEVELS names {levels} "
            "levels; set as many, or tune it again"
        )
    if settings.labeller.adapter:
        raise ModelUnusable("LABELSTREAM_LABELLER_ADAPTER: vLLM takes none for a classifier; merge it into the model")
    if settings.prompt.chat_template:
        raise SettingsError("LABELSTREAM_PROMPT_CHAT_TEMPLATE=true, but a classifier takes no chat template; unset it")
    encoder = PairEncoder(_load_tokenizer(folder), settings.prompt.max_tokens)
    return JudgeKind(encoder, encoder.version, lambda: VllmClassifier(settings, folder))


def is_classifier(config: dict[str, Any]) -> bool:
    """Whether a model has a classification head.

    Args:
        config: Its ``config.json``.
    """
    return any(name.endswith(_CLASSIFYING) for name in _architectures(config))


def _architectures(config: dict[str, Any]) -> list[str]:
    return [str(name) for name in config.get("architectures") or ["none"]]


def _check_generates(config: dict[str, Any], folder: Path) -> None:
    names = _architectures(config)
    if not any(name.endswith(_GENERATIVE) for name in names):
        raise ModelUnusable(
            f"{MODEL}={folder} is a {names[0]}; "
            f"set it to a causal LM (…ForCausalLM) or to a classifier (…{_CLASSIFYING})"
        )


def _check_length(config: dict[str, Any], folder: Path, max_tokens: int) -> None:
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and max_tokens > (longest := positions - _reserved_positions(config)):
        raise ModelUnusable(
            f"{MODEL}={folder} takes prompts of {longest} tokens; "
            f"set LABELSTREAM_PROMPT_MAX_TOKENS to {longest} or less"
        )


def _reserved_positions(config: dict[str, Any]) -> int:
    """Positions that no token of a prompt can have."""
    if not is_classifier(config):
        return 1  # the answer is a token too
    # RoBERTa counts from the padding token's number on.
    return int(config.get("pad_token_id") or 0) + 1 if "Roberta" in _architectures(config)[0] else 0


def check_levels(card: ModelCard, scale: LabelScale, *, setting: str) -> None:
    """Refuse a model that was tuned on another scale.

    Args:
        card: Its card; nothing is known without levels on it.
        scale: The one that is set.
        setting: Environment variable that names the model.

    Raises:
        ModelUnusable: The scales differ.
    """
    if card.levels is not None and card.levels != scale.levels:
        raise ModelUnusable(
            f"{setting}: tuned on the levels {list(card.levels)}, but LABELSTREAM_SCALE_LEVELS is "
            f"{list(scale.levels)}; set them alike"
        )


def _check_prompt(card: ModelCard, version: str) -> None:
    asked = version.partition("-")[0]  # another length is no other prompt
    if card.prompt_version is not None and card.prompt_version.partition("-")[0] != asked:
        raise ModelUnusable(
            f"{MODEL}: tuned on prompt {card.prompt_version}, this version of labelstream asks {asked}; tune it again"
        )


def _outputs(folder: Path) -> int:
    from transformers import AutoConfig

    try:
        return int(AutoConfig.from_pretrained(folder, trust_remote_code=False).num_labels)
    except (ValueError, OSError, ImportError) as error:
        raise ModelUnusable(f"{MODEL}={folder}: its config.json cannot be read: {error}") from error


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, ImportError) as error:
        raise ModelUnusable(f"{MODEL}={folder}: its tokenizer cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise ModelUnusable(f"{MODEL}={folder}: has no tokenizer.json; save the model with its fast tokenizer")
    return tokenizer
