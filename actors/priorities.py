"""Who goes first at a model: whoever has the lower number."""

from __future__ import annotations

STREAM_PRIORITY = 0
REQUEST_PRIORITY = -1


def is_request(priority: int) -> bool:
    """Whether somebody waits for the answer; the stream can wait."""
    return priority < STREAM_PRIORITY
