"""A small Ray for tests of actors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray


@contextmanager
def small_ray(namespace: str | None = None, *, cores: int = 1) -> Iterator[Path]:
    """Start one on the loopback interface; its processes find the stand-ins of this folder.

    Args:
        namespace: Of actors' names; one of its own without.
        cores: How many it believes to have.

    Yields:
        The folder of its logs.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
        context = ray.init(
            "local",
            num_cpus=cores,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            namespace=namespace,
            object_store_memory=80 << 20,
            _node_ip_address="127.0.0.1",
        )
    try:
        yield Path(context.address_info["session_dir"]) / "logs"
    finally:
        ray.shutdown()
