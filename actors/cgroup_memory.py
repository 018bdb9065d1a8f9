"""What vLLM takes for free memory in a container, put right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Of cgroup v2, and of v1.
STAT_FILES = (Path("/sys/fs/cgroup/memory.stat"), Path("/sys/fs/cgroup/memory/memory.stat"))
_LISTS = ("active_file", "inactive_file")


def page_cache_bytes() -> int:
    """The page cache that counts as memory of this process' cgroup; 0 where no cgroup tells it.

    The kernel gives it back as soon as somebody asks for memory.
    """
    for path in STAT_FILES:
        try:
            words = [line.split() for line in path.read_text().splitlines()]
        except OSError:
            continue
        found = {name: int(value) for name, value in words}
        # v1 counts each cgroup by itself, and with "total_" those below it too, as its usage does.
        return sum(found.get(f"total_{name}", found.get(name, 0)) for name in _LISTS)
    return 0


@contextmanager
def page_cache_counts_as_free() -> Iterator[None]:
    """Have vLLM take the page cache of a container for free memory while an engine starts.

    On the CPU vLLM 0.32 refuses to start where the KV cache does not fit into the limit of the cgroup less what the
    cgroup uses, and what it uses has the page cache in it. A pod that has read much fills its limit with page cache, so
    a Labeller that died there could never start again. Of a machine without a limit vLLM itself takes active and
    inactive files for free.
    """
    from vllm.utils import cpu_resource_utils

    with_cache = cpu_resource_utils.get_cgroup_memory_usage

    def without_cache() -> int | None:
        used = with_cache()
        return None if used is None else max(0, used - page_cache_bytes())

    cpu_resource_utils.get_cgroup_memory_usage = without_cache
    try:
        yield
    finally:
        cpu_resource_utils.get_cgroup_memory_usage = with_cache
