"""Rankings by the ranker and by the cross-encoder, for somebody who waits."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress

from labelstream.actors.champion import no_champion
from labelstream.actors.endpoint.services import Ranking
from labelstream.actors.named_replicas import NamedReplicas
from labelstream.actors.on_demand_scores import cross_encoder_scores
from labelstream.actors.ranker_actor import RankedDocuments, RankerDescription
from labelstream.schemas.errors import BadRecord, ModelUnavailable, TransientError
from labelstream.schemas.http import ModelEntry
from labelstream.schemas.product import Product, product_of_text
from labelstream.schemas.settings import Settings

_DESCRIBE_S = 2.0

_log = logging.getLogger(__name__)


class OnDemandRanking:
    """Scores the documents of one query.

    Args:
        settings: All settings.
        cross_encoder_version: Empty where there is none.
        cross_encoders: The replicas that score.
        rankers: The one that ranks.
    """

    def __init__(
        self,
        settings: Settings,
        cross_encoder_version: str,
        cross_encoders: NamedReplicas,
        rankers: NamedReplicas,
    ) -> None:
        self._cross_encoder_version, self._cross_encoders = cross_encoder_version, cross_encoders
        self._rankers = rankers
        self._interval_s = settings.endpoint.champion_interval_s
        self._champion: RankerDescription | None = None
        self._trouble = ""
        self._asked_at = -float("inf")
        self._asking = asyncio.Lock()
        self._warned_of = ""

    async def by_cross_encoder(self, query: str, texts: Sequence[str], deadline: float) -> Ranking:
        """Scores of the cross-encoder.

        Raises:
            BadRecord: There is none, or its answer for a document is not a number: an order with gaps would mislead.
        """
        if not self._cross_encoders.count:
            raise BadRecord("model: the cross-encoder is switched off here; ask for labeller", field="model")
        scores = await self._scores(query, texts, deadline)
        for index, score in enumerate(scores):
            if not math.isfinite(score):
                raise _no_number(f"documents.{index}")
        return Ranking("cross-encoder", self._cross_encoder_version, scores)

    async def _scores(self, query: str, texts: Sequence[str], deadline: float) -> list[float]:
        return await cross_encoder_scores(self._cross_encoders, [query] * len(texts), texts, deadline)

    async def by_ranker(
        self, query: str, documents: Sequence[str | Product], texts: Sequence[str], deadline: float
    ) -> Ranking:
        """Scores of the champion.

        Args:
            query: Normalised.
            documents: Own ids of products of the catalogue, or products.
            texts: What the models see of them.
            deadline: Of ``time.monotonic()``.

        Raises:
            BadRecord: There is no champion.
            ModelUnavailable: Nobody knows, because the ranker does not answer.
        """
        champion = await self._described()
        if champion is None:
            raise no_champion()
        has_scores = champion.needs_cross_encoder and self._cross_encoders.count
        scores = await self._scores(query, texts, deadline) if has_scores else None
        ranked = await self._ranked(query, documents, texts, scores, deadline)
        if ranked.lacks_scores and self._cross_encoders.count:  # it is not the champion that was described
            self._asked_at = -float("inf")
            scores = await self._scores(query, texts, deadline)
            ranked = await self._ranked(query, documents, texts, scores, deadline)
        elif ranked.lacks_scores:
            self._warn(ranked.version)
        return Ranking("ranker", ranked.version, [float(score) for score in ranked.scores])

    async def _ranked(
        self,
        query: str,
        documents: Sequence[str | Product],
        texts: Sequence[str],
        scores: Sequence[float] | None,
        deadline: float,
    ) -> RankedDocuments:
        """The ranker's answer; what it has not read yet is ranked by its text, for it reads the catalogue last."""
        ranked: RankedDocuments = await self._rankers.call("rank", query, list(documents), scores, deadline=deadline)
        if not ranked.errors:
            return ranked
        described = [
            product_of_text(document, text) if index in ranked.errors and isinstance(document, str) else document
            for index, (document, text) in enumerate(zip(documents, texts, strict=True))
        ]
        again: RankedDocuments = await self._rankers.call("rank", query, described, scores, deadline=deadline)
        return again

    def _warn(self, version: str) -> None:
        if self._warned_of != version:  # said once, not for every request
            _log.warning("ranker %s was trained with scores of the cross-encoder, which is switched off", version)
        self._warned_of = version

    async def champion(self) -> ModelEntry | None:
        """The ranker in use; None where there is none, or where it does not answer: others can rank meanwhile."""
        with suppress(ModelUnavailable):
            if (champion := await self._described()) is not None:
                return ModelEntry(id="ranker", version=champion.version, since=champion.promoted_at.isoformat())
        return None

    async def _described(self) -> RankerDescription | None:
        """The ranker's own answer, or its silence, of a moment ago; None where nobody has been promoted.

        Raises:
            ModelUnavailable: It did not answer.
        """
        async with self._asking:
            if time.monotonic() - self._asked_at > self._interval_s:
                await self._ask()
                self._asked_at = time.monotonic()
        if self._trouble:
            raise ModelUnavailable(f"the ranker does not answer: {self._trouble}")
        return self._champion

    async def _ask(self) -> None:
        try:
            self._champion = await self._rankers.call("describe", deadline=time.monotonic() + _DESCRIBE_S)
            self._trouble = ""
        except (TransientError, TimeoutError) as error:
            self._trouble = str(error) or "it takes too long"
        except Exception as error:  # a fault of it keeps nobody from what the other models do
            _log.exception("the ranker could not say what it is")
            self._trouble = f"{type(error).__name__}; the log of the endpoint has more"


def _no_number(field: str) -> BadRecord:
    message = f"{field}: the cross-encoder's answer is not a number; leave the document out, or ask for labeller"
    return BadRecord(message, field=field)
