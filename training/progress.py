"""A bar for work that takes a while, on standard error: standard output is for results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def with_bar(items: Sequence[Item], task: str) -> Iterable[Item]:
    """The items one after the other, and how many of them have been worked on.

    Args:
        items: What is to be worked on.
        task: What is done to them.
    """
    return track(items, task, console=Console(stderr=True))
