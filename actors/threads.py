"""What the processor gives: threads to compute with, and numbers that it is quick at."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def compute_threads(threads: int) -> int:
    """Threads on the CPU: those asked for, else every core that this process may use.

    Args:
        threads: From the settings; 0 for all cores.
    """
    from joblib import cpu_count  # type: ignore[import-untyped]  # knows of affinity and of container limits

    return threads or int(cpu_count())


def leave_cores_to_requests() -> None:
    """Have this process, and what it starts, run where nobody else wants to.

    Linux interrupts such a process at once for any other, while a lower priority alone has the other wait for the end
    of a slice. Groups of processes (a container, a terminal) share the machine as before; so this is about our own.
    """
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has just ended
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


def processor_dtype() -> str:
    """bfloat16 where the CPU multiplies it (twice as quick there), float32 where it would be emulated.

    On a processor with AVX2 alone, emulated bfloat16 is some forty times slower than float32.
    """
    import torch

    capabilities = torch.cpu.get_capabilities()
    return "bfloat16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"
