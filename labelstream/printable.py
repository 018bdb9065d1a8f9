"""Text from outside on a terminal."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

MAX_CELL = 200


def printable(value: Any) -> str:
    """One line that cannot do anything to the terminal that shows it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))
    return escape(text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…")
