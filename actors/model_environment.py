"""What the process of a model has in its environment."""

from __future__ import annotations

from pathlib import Path

from labelstream.actors.threads import compute_threads
from labelstream.schemas.model_settings import EncoderSettings, LabellerSettings


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
    return environment
