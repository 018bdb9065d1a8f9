"""A label as the local store keeps it: what cannot be computed again, in some forty bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

_HEAD = struct.Struct("<qfBB")  # microseconds since 1970, cross-encoder score, shortened, number of levels
_NO_SCORE = float("nan")
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


class KnownLabel(NamedTuple):
    """A judgement without what its key and the settings say anyway.

    Attributes:
        label_key: Says which query, product text, model, prompt and scale.
        probabilities: P(level), worst level first.
        shortened: The product text was cut to fit the prompt.
        judged_at: When, in UTC.
        cross_encoder_score: None where there was no cross-encoder.
        cross_encoder_version: Which one.
    """

    label_key: str
    probabilities: tuple[float, ...]
    shortened: bool
    judged_at: datetime
    cross_encoder_score: float | None = None
    cross_encoder_version: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The known part of a row of ``labels``."""
        return cls(**{name: row[name] for name in cls._fields} | {"probabilities": tuple(row["probabilities"])})

    def encode(self) -> bytes:
        """All but the key."""
        moment = (self.judged_at - _EPOCH) // _MICROSECOND
        score = _NO_SCORE if self.cross_encoder_score is None else self.cross_encoder_score
        head = _HEAD.pack(moment, score, self.shortened, len(self.probabilities))
        version = (self.cross_encoder_version or "").encode()
        return head + struct.pack(f"<{len(self.probabilities)}f", *self.probabilities) + version

    @classmethod
    def decode(cls, label_key: str, value: bytes) -> Self:
        """What ``encode`` has made."""
        moment, score, shortened, levels = _HEAD.unpack_from(value)
        version = value[_HEAD.size + 4 * levels :].decode()
        return cls(
            label_key,
            struct.unpack_from(f"<{levels}f", value, _HEAD.size),
            bool(shortened),
            _EPOCH + moment * _MICROSECOND,
            score if score == score else None,  # noqa: PLR0124  # NaN is not itself
            version or None,
        )
