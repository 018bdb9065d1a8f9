"""Text from outside on a terminal."""

from __future__ import annotations

from typing import Any

MAX_CELL = 400


def printable(value: Any) -> str:
    """One line that cannot do anything to the terminal that shows it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def as_cell(value: Any) -> str:
    """The same, cut where it would fill a table."""
    text = printable(value)
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
