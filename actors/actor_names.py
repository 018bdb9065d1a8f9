"""Under which names the actors with models can be found."""

from __future__ import annotations


def labeller_name(number: int) -> str:
    """Of a Labeller."""
    return f"labeller-{number}"


def cross_encoder_name(number: int) -> str:
    """Of a CrossEncoder."""
    return f"cross-encoder-{number}"


def ranker_name(number: int = 0) -> str:
    """Of a ranker; there is one."""
    return f"ranker-{number}"
