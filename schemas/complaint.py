"""What pydantic says is wrong, in our words."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def what_is_wrong(detail: ErrorDetails) -> str:
    """One complaint, without the name of Python's error that one of our own checks has raised."""
    return detail["msg"].removeprefix("Value error, ")


def first_complaint(error: ValidationError) -> str:
    """What is said first of a file: the name of the field and what is wrong, without what stands there."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{field}: {what_is_wrong(first)}"
