"""The models as the endpoint sees them: which there are, and how to call them."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from labelstream.actors.actor_names import CROSS_ENCODER, LABELLER, RANKER
from labelstream.actors.named_replicas import NamedReplicas, Reserve
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.settings import Settings

_PING_S = 2.0


class PoolDescription(NamedTuple):
    """Which models the pool holds.

    Attributes:
        judge: The labeller.
        cross_encoder_version: Empty where there is none.
    """

    judge: JudgeDescription
    cross_encoder_version: str


class Pool(NamedTuple):
    """The models, to be called.

    Attributes:
        labellers: At least one.
        cross_encoders: None at all where they are switched off.
        rankers: One.
    """

    labellers: NamedReplicas
    cross_encoders: NamedReplicas
    rankers: NamedReplicas

    @classmethod
    def of(cls, settings: Settings) -> Pool:
        """Those that run under their names."""
        labeller = settings.labeller
        return cls(
            NamedReplicas(settings, LABELLER, labeller.replicas, Reserve(labeller.reserved, labeller.target_requests)),
            NamedReplicas(settings, CROSS_ENCODER, settings.encoder.replicas_if_enabled),
            NamedReplicas(settings, RANKER, 1),
        )

    async def waiting_for(self) -> list[str]:
        """Kinds of which no replica answers; the ranker answers once champion and catalogue are loaded."""
        kinds = {LABELLER: self.labellers, CROSS_ENCODER: self.cross_encoders, RANKER: self.rankers}
        asked = {name: replicas for name, replicas in kinds.items() if replicas.count}
        deadline = time.monotonic() + _PING_S
        answers = await asyncio.gather(*(replicas.any_answers(deadline) for replicas in asked.values()))
        return [name for name, there in zip(asked, answers, strict=True) if not there]
