"""How many threads a model computes with."""

from __future__ import annotations


def compute_threads(threads: int) -> int:
    """Threads on the CPU: those asked for, else every core that this process may use.

    Args:
        threads: From the settings; 0 for all cores.
    """
    from joblib import cpu_count  # type: ignore[import-untyped]  # knows of affinity and of container limits

    return threads or int(cpu_count())
