"""vLLM in this process with an encoder that classifies pairs: a whole input in, one logit a level out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labelstream.actors.vllm_engine import common_arguments, start_engine
from labelstream.schemas.settings import Settings


def classifier_arguments(settings: Settings, folder: Path) -> dict[str, Any]:
    """Keyword arguments of vLLM's ``EngineArgs`` for a model with a classification head."""
    arguments = common_arguments(settings.labeller, folder)
    return arguments | {
        "runner": "pooling",
        "max_model_len": settings.prompt.max_tokens,
        # Every token of an input sees every other, so no part of it can be cached, or be computed in another step.
        "enable_prefix_caching": False,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(arguments["max_num_batched_tokens"], settings.prompt.max_tokens),
    }


class VllmClassifier:
    """``LLMEngine`` with its pooling runner as an ``Engine`` that gives the logits of the levels.

    Logits are log-probabilities up to a constant, which ``label_distribution`` takes out.

    Args:
        settings: Where ``labeller`` and ``prompt`` matter.
        folder: The model.

    Raises:
        ModelUnusable: vLLM cannot load the model.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._engine = start_engine(settings.labeller, classifier_arguments(settings, folder))
        from vllm import PoolingParams
        from vllm.inputs import tokens_input

        self._tokens_input = tokens_input
        self._pooling = PoolingParams(task="classify", use_activation=False)

    def add(self, request: int, token_ids: list[int], priority: int) -> None:
        """Take one input in; without token types vLLM gives every token type 0."""
        self._engine.add_request(str(request), self._tokens_input(token_ids), self._pooling, priority=priority)

    def step(self) -> Iterator[tuple[int, list[float]]]:
        """Run one forward pass over as many inputs as fit; yields those that are finished by it: all of them."""
        for output in self._engine.step():
            yield int(output.request_id), output.outputs.data.tolist()

    def close(self) -> None:
        """Free the model."""
        self._engine.engine_core.shutdown()
        del self._engine
