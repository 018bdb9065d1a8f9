"""What the process of a model has in its environment."""

from __future__ import annotations

from pathlib import Path

from labelstream.actors.threads import compute_threads
from labelstream.schemas.model_settings import EncoderSettings, LabellerSettings

# Compiled matrix products that oneDNN keeps. It compiles some for every number of tokens that a step has, and would
# keep 1,024, half a GiB. vLLM itself keeps those of 32 numbers of tokens; these are as many of the four products of a
# usual layer. With none, torch would compile anew for each layer. docs/decisions.md, 39, has the figures.
_KEPT_KERNELS = 128


def model_environment(settings: LabellerSettings | EncoderSettings) -> dict[str, str]:
    """Environment variables that have to stand before torch is imported."""
    environment = {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not settings.model or Path(settings.model).expanduser().is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    if not settings.gpus:
        # Ray would set OMP_NUM_THREADS from the actor's num_cpus.
        environment["OMP_NUM_THREADS"] = str(compute_threads(settings.threads))
        # Threads that wait actively burn the core of the one they wait for, as soon as anything else runs.
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = str(_KEPT_KERNELS)
    return environment
