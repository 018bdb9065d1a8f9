"""Under which names actors can be found."""

from __future__ import annotations

LABELLER, CROSS_ENCODER, RANKER, WRITER = "labeller", "cross-encoder", "ranker", "writer"


def replica_name(kind: str, number: int) -> str:
    """Of one of several."""
    return f"{kind}-{number}"


def kind_and_number(name: str) -> tuple[str, str]:
    """The other way round: ``cross-encoder-0`` is number 0 of the cross-encoders."""
    kind, _, number = name.rpartition("-")
    return kind, number


def labeller_name(number: int) -> str:
    """Of a Labeller."""
    return replica_name(LABELLER, number)


def cross_encoder_name(number: int) -> str:
    """Of a CrossEncoder."""
    return replica_name(CROSS_ENCODER, number)


def ranker_name() -> str:
    """Of the ranker; there is one."""
    return replica_name(RANKER, 0)
