"""vLLM in this process: its environment, its arguments, and the few calls that we make."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from labelstream.actors.cgroup_memory import page_cache_counts_as_free
from labelstream.actors.model_environment import model_environment
from labelstream.actors.threads import compute_threads, processor_dtype
from labelstream.schemas.errors import MissingDependency, ModelUnusable
from labelstream.schemas.model_folder import read_json
from labelstream.schemas.model_settings import LabellerSettings
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from vllm import LLMEngine

_GIBIBYTE = 1 << 30
_ADAPTER = "LABELSTREAM_LABELLER_ADAPTER"


def engine_environment(labeller: LabellerSettings) -> dict[str, str]:
    """Environment variables that have to stand before vLLM is imported, and those of every model.

    The engine runs in this process: on two cores that loads in a sixth of the time and answers a quarter
    more pairs than vLLM's default of three processes.
    """
    environment = model_environment(labeller) | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_NO_USAGE_STATS": "1",
    }
    if labeller.gpus:
        # We take the likeliest token and never draw one. FlashInfer's kernels for drawing would be compiled when the
        # engine starts, with nvcc and CUDA's headers, and without them vLLM 0.32 does not start.
        environment["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    elif labeller.enforce_eager is not False:
        # vLLM compiles one small sampling function even in eager mode: 3 s at the first answer, and a C++ compiler
        # that a container may not have.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    return environment


def engine_arguments(settings: Settings, folder: Path) -> dict[str, Any]:
    """Keyword arguments of vLLM's ``EngineArgs`` for one-token answers."""
    arguments = common_arguments(settings.labeller, folder) | {
        "generation_config": "vllm",  # the model's own sampling defaults must not leak in
        "max_model_len": settings.prompt.max_tokens + 1,
        "enable_prefix_caching": True,
    }
    if adapter := adapter_of(settings.labeller):
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _lora_rank(adapter[1])}
    return arguments


def common_arguments(labeller: LabellerSettings, folder: Path) -> dict[str, Any]:
    """Those keyword arguments that do not depend on what the model answers with."""
    arguments: dict[str, Any] = {
        "model": str(folder),
        "skip_tokenizer_init": True,  # token ids go in, numbers come out: no text on the way
        "load_format": "safetensors",
        "trust_remote_code": False,
        "dtype": labeller.dtype,
        "max_num_seqs": labeller.max_sequences,
        "max_num_batched_tokens": max(labeller.max_batched_tokens, labeller.max_sequences),
        "scheduling_policy": "priority",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "seed": 0,
    }
    return arguments | (_gpu_arguments(labeller) if labeller.gpus else _cpu_arguments(labeller))


def _cpu_arguments(labeller: LabellerSettings) -> dict[str, Any]:
    return {
        "dtype": processor_dtype() if labeller.dtype == "auto" else labeller.dtype,
        "block_size": labeller.block_size,
        "kv_cache_memory_bytes": int(labeller.cache_gigabytes * _GIBIBYTE),
        "enforce_eager": labeller.enforce_eager is not False,
    }


def _gpu_arguments(labeller: LabellerSettings) -> dict[str, Any]:
    return {
        "gpu_memory_utilization": labeller.gpu_memory_utilization,
        "tensor_parallel_size": max(1, int(labeller.gpus)),
        "enforce_eager": bool(labeller.enforce_eager),
    }


def adapter_of(labeller: LabellerSettings) -> tuple[str, Path] | None:
    """Name and folder of the LoRA adapter, if one is set.

    Raises:
        ModelUnusable: No adapter in that folder.
    """
    if labeller.adapter is None:
        return None
    name, _, folder = labeller.adapter.partition("=")
    path = Path(folder).expanduser()
    if not (path / "adapter_model.safetensors").is_file():
        raise ModelUnusable(f"{_ADAPTER}={labeller.adapter}: holds no adapter_model.safetensors; save it with PEFT")
    return name, path.resolve()


def _lora_rank(folder: Path) -> int:
    """The smallest rank that vLLM reserves room for and that holds the adapter's."""
    from vllm.config.lora import MaxLoRARanks

    rank = read_json(folder / "adapter_config.json", setting=_ADAPTER).get("r")
    ranks: list[int] = sorted(get_args(MaxLoRARanks))
    if not isinstance(rank, int) or rank > ranks[-1]:
        raise ModelUnusable(f"{_ADAPTER}: rank {rank!r} of {folder} is no number up to {ranks[-1]}")
    return next(possible for possible in ranks if possible >= rank)


def require_vllm(labeller: LabellerSettings) -> None:
    """Fail early, with what to install.

    Raises:
        MissingDependency: vLLM is not there.
    """
    if find_spec("vllm") is None:
        raise MissingDependency("vllm", "gpu" if labeller.gpus else "cpu")


def start_engine(labeller: LabellerSettings, arguments: dict[str, Any]) -> LLMEngine:
    """Load a model into vLLM, in this thread and process.

    Args:
        labeller: The environment and the threads.
        arguments: Of ``EngineArgs``.

    Raises:
        ModelUnusable: vLLM cannot load the model.
    """
    os.environ.update(engine_environment(labeller))
    with _nothing_collected():
        import torch
        from vllm import EngineArgs, LLMEngine

    if not labeller.gpus:
        torch.set_num_threads(compute_threads(labeller.threads))
    try:
        with _hidden("llvmlite.binding.ffi"), nullcontext() if labeller.gpus else page_cache_counts_as_free():
            return LLMEngine.from_engine_args(EngineArgs(**arguments))
    except (ValueError, RuntimeError, NotImplementedError, OSError) as error:
        reason = " ".join(str(error).split())[:500]
        model = arguments["model"]
        raise ModelUnusable(f"LABELSTREAM_LABELLER_MODEL={model}: vLLM cannot load it: {reason}") from error


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Leave Python's garbage collector off, while thousands of modules make objects that all stay.

    To look through them again and again was a fifth of the time that importing vLLM takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Keep a module out of sight.

    vLLM 0.32 looks through everything in every loaded module for kernels, and trips over an object of llvmlite, which
    comes with Numba, which comes with bm25s.
    """
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


class VllmEngine:
    """``LLMEngine`` as an ``Engine`` that gives the log-probabilities of fixed tokens after a prompt.

    Args:
        settings: Where ``labeller`` and ``prompt`` matter.
        folder: The model.
        label_token_ids: Tokens to ask for, in the order of the answer.

    Raises:
        ModelUnusable: vLLM cannot load the model.
    """

    def __init__(self, settings: Settings, folder: Path, label_token_ids: Sequence[int]) -> None:
        self._engine = start_engine(settings.labeller, engine_arguments(settings, folder))
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.lora.request import LoRARequest

        self._tokens_input = tokens_input
        self._label_token_ids = tuple(label_token_ids)
        self._sampling = SamplingParams(
            max_tokens=1, temperature=0, logprob_token_ids=list(label_token_ids), detokenize=False
        )
        adapter = adapter_of(settings.labeller)
        self._lora = LoRARequest(adapter[0], 1, str(adapter[1])) if adapter else None

    def add(self, request: int, token_ids: list[int], priority: int) -> None:
        """Take one prompt in."""
        prompt = self._tokens_input(token_ids)
        self._engine.add_request(str(request), prompt, self._sampling, lora_request=self._lora, priority=priority)

    def step(self) -> Iterator[tuple[int, list[float]]]:
        """Run one forward pass over as many tokens as fit; yields the prompts that are finished by it."""
        for output in self._engine.step():
            (answer,) = output.outputs[0].logprobs
            yield int(output.request_id), [answer[token].logprob for token in self._label_token_ids]

    def close(self) -> None:
        """Free the model and the KV cache."""
        self._engine.engine_core.shutdown()
        del self._engine
