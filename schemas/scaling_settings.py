"""How many Labellers there are, and what it takes to start or end one."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field, ValidationInfo, field_validator

from labelstream.schemas.section import Section


class ScalingSettings(Section):
    """Part of the labeller's settings; ``actors/scaling_rule.py`` goes by them."""

    replicas: int = Field(
        default=1, ge=1, le=1024, description="Number of Labeller actors that are started, and the least of them."
    )
    max_replicas: int | None = Field(
        default=None, le=1024, description="Most Labellers, when lag or requests ask for more; unset: no more."
    )
    reserved: int = Field(
        default=0,
        ge=0,
        description="How many of LABELSTREAM_LABELLER_REPLICAS the stream leaves alone: they answer requests only.",
    )
    drain_target_s: float = Field(
        default=300, gt=0, description="Another Labeller is wanted while the lag would take longer at its present pace."
    )
    target_requests: float = Field(
        default=16, gt=0, description="Another Labeller is wanted while each has more HTTP requests at once than this."
    )
    scale_down_delay_s: float = Field(
        default=600, ge=0, description="One Labeller is ended when one fewer would have done for so long."
    )

    @field_validator("max_replicas")
    @classmethod
    def _most_is_not_below_least(cls, most: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("replicas", 1)  # missing where it is wrong itself
        if most is not None and most < least:
            raise ValueError(f"must be at least LABELSTREAM_LABELLER_REPLICAS, which is {least}")
        return most

    @field_validator("reserved")
    @classmethod
    def _the_stream_has_one(cls, reserved: int, info: ValidationInfo) -> int:
        least = info.data.get("replicas", reserved + 1)
        if reserved >= least:
            raise ValueError(f"must be less than LABELSTREAM_LABELLER_REPLICAS, which is {least}: the stream needs one")
        return reserved

    def is_reserved(self, number: int) -> bool:
        """Whether the Labeller of this number answers requests only: the lowest numbers do."""
        return number < self.reserved

    def for_stream(self, numbers: Iterable[int]) -> list[int]:
        """Those of these Labellers that the stream may ask."""
        return [number for number in numbers if not self.is_reserved(number)]

    @property
    def most(self) -> int:
        """Labellers that there may be at once."""
        return self.replicas if self.max_replicas is None else self.max_replicas
