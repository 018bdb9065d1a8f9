"""Memory of a process and its descendants, by kind and by name; Linux only."""

from __future__ import annotations

from pathlib import Path

import psutil

KINDS = ("anonymous", "uss", "pss")


def memory_of(root: psutil.Process) -> dict[str, dict[str, float]]:
    """MiB of each process of a tree, those of one name together; for the kinds see memory.py."""
    found: dict[str, dict[str, float]] = {}
    for process in (root, *root.children(recursive=True)):
        try:
            name, sizes = process.name(), _rollup(process.pid)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
        name = name.split(".")[0] if name.startswith("ray::") else name  # an actor shows the method that it runs
        of_name = found.setdefault(name, dict.fromkeys(KINDS, 0.0))
        of_name["anonymous"] += sizes["Pss_Anon"]
        of_name["uss"] += sizes["Private_Clean"] + sizes["Private_Dirty"]
        of_name["pss"] += sizes["Pss"]
    return found


def _rollup(pid: int) -> dict[str, float]:
    """MiB by field of smaps_rollup (Linux), where one read gives what psutil needs three for."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    fields = (line.split() for line in lines)
    return {name.rstrip(":"): int(kib) / 1024 for name, kib, *_ in fields}
