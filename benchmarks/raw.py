"""Raw vLLM, the baseline of the other benchmarks: ready-made token ids in, log-probabilities of the labels out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from common import Texts, prompt_encoder, token_ids_of

from labelstream.actors.vllm_engine import engine_arguments
from labelstream.schemas.settings import Settings

Cost = tuple[float, float]  # wall-clock seconds, processor seconds of this process


def now() -> Cost:
    return time.perf_counter(), time.process_time()


def since(start: Cost) -> Cost:
    wall, processor = now()
    return wall - start[0], processor - start[1]


def label_sampling(settings: Settings) -> dict[str, Any]:
    """What the Labeller asks of vLLM, as options of ``SamplingParams``."""
    labels = list(prompt_encoder(settings).label_token_ids)
    return {"max_tokens": 1, "temperature": 0, "logprob_token_ids": labels, "detokenize": False}


class RawEngine:
    """What ``LLM.generate`` costs for some pairs, all at once; prompts are made beforehand."""

    def __init__(self, settings: Settings) -> None:
        from vllm import LLM, SamplingParams

        self.settings = settings
        self.llm = LLM(**(engine_arguments(settings, Path(settings.labeller.model)) | {"scheduling_policy": "fcfs"}))
        self.sampling = SamplingParams(**label_sampling(settings))

    def cost(self, pairs: Texts) -> Cost:
        prompts: Any = [{"prompt_token_ids": ids} for ids in token_ids_of(self.settings, *pairs)]
        start = now()
        outputs = self.llm.generate(prompts, self.sampling, use_tqdm=False)
        assert len(outputs) == len(pairs[0])
        return since(start)
