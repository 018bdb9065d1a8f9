"""Labels and rankings for somebody who waits: the ``Services`` behind the HTTP endpoint, over the shared actors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from labelstream.actors.answers import Answers
from labelstream.actors.asked_pairs import resolve
from labelstream.actors.endpoint.services import AskedPair, Labelled, Ranking, Request
from labelstream.actors.on_demand_labels import Keep, OnDemandLabels
from labelstream.actors.on_demand_pool import Pool, PoolDescription
from labelstream.actors.on_demand_ranking import OnDemandRanking
from labelstream.schemas.errors import BadRecord, LabelstreamError, ModelUnavailable
from labelstream.schemas.http import ModelEntry, RerankModel
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product
from labelstream.schemas.settings import Settings
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.records import Known

_Answer = TypeVar("_Answer")
Behind = Callable[[Mapping[str, int]], Awaitable[str]]

_log = logging.getLogger(__name__)


class OnDemand:
    """Implements ``actors.endpoint.services.Services``.

    Args:
        settings: All settings.
        description: Which models answer.
        pool: The models themselves.
        store: This machine's store, for the catalogue and for labels that were made before.
        answers: Remembers what is made now.
        keep: Takes rows of ``labels`` that shall go to the lake; None keeps nothing.
        behind: Answers with the metrics of everything behind the endpoint; is told how much the store holds.
    """

    def __init__(
        self,
        settings: Settings,
        description: PoolDescription,
        pool: Pool,
        store: LocalStore,
        answers: Answers,
        *,
        keep: Keep | None,
        behind: Behind,
    ) -> None:
        self._settings, self._description, self._pool, self._store = settings, description, pool, store
        self._behind = behind
        self._labels = OnDemandLabels(settings, description, pool, store, answers, keep=keep)
        self._ranking = OnDemandRanking(settings, description.cross_encoder_version, pool.cross_encoders, pool.rankers)

    async def label(
        self, pairs: Sequence[AskedPair], request: Request, *, cross_encoder: bool
    ) -> list[Labelled | BadRecord]:
        """See ``Services.label``."""
        return await self._labels.label(pairs, request, cross_encoder=cross_encoder)

    async def rerank(
        self, query: str, documents: Sequence[str | Product], request: Request, *, model: RerankModel | None
    ) -> Ranking:
        """See ``Services.rerank``."""
        model = model or await self._best_model()
        asked = [AskedPair(query, document) for document in documents]
        if model == "labeller":
            return await self._rank_by_labels(asked, request)
        judge = self._description.judge.version
        with self._store.reader() as reader:
            pairs = [
                _or_raise(resolve(pair, Known(reader, ()).product, judge), index) for index, pair in enumerate(asked)
            ]
        normalised, texts = normalise_query(query), [pair.product.text for pair in pairs]
        if model == "cross-encoder":
            return await self._ranking.by_cross_encoder(normalised, texts, request.deadline)
        own_ids = [
            document if isinstance(document, Product) else pair.product.product_id
            for document, pair in zip(documents, pairs, strict=True)
        ]
        return await self._ranking.by_ranker(normalised, own_ids, texts, request.deadline)

    async def _best_model(self) -> RerankModel:
        if await self._ranking.champion() is not None:
            return "ranker"
        return "cross-encoder" if self._pool.cross_encoders.count else "labeller"

    async def _rank_by_labels(self, asked: Sequence[AskedPair], request: Request) -> Ranking:
        answers = await self.label(asked, request, cross_encoder=False)
        scores = [_or_raise(answer, index).record.expected_score for index, answer in enumerate(answers)]
        return Ranking("labeller", self._description.judge.model_version, scores)

    async def models(self) -> list[ModelEntry]:
        """See ``Services.models``."""
        judge, scale = self._description.judge, self._settings.scale
        alpha, beta = self._settings.polarization.parameters or (None, None)
        labeller = ModelEntry(
            id="labeller",
            version=judge.model_version,
            prompt_version=judge.prompt_version,
            scale_version=judge.scale_version,
            levels=scale.levels,
            level_worths=tuple(scale.values.tolist()),
            polarization_alpha=alpha,
            polarization_beta=beta,
        )
        champion = await self._ranking.champion()
        encoder = [ModelEntry(id="cross-encoder", version=self._description.cross_encoder_version)]
        return [*([champion] if champion else []), *(encoder if self._pool.cross_encoders.count else []), labeller]

    async def waiting_for(self) -> list[str]:
        """See ``Services.waiting_for``."""
        return await self._pool.waiting_for()

    async def metrics(self) -> str:
        """See ``Services.metrics``."""
        with self._store.reader() as reader:
            entries = reader.counts()
        try:
            return await self._behind(entries)
        except (LabelstreamError, TimeoutError):
            raise
        except Exception as error:  # our own figures are wanted most when something is broken
            _log.exception("the models could not tell their figures")
            raise ModelUnavailable(f"{type(error).__name__}, as logged before") from error


def _or_raise(answer: _Answer | BadRecord, index: int) -> _Answer:
    """In a ranking, one bad document fails the request: an order with gaps would mislead."""
    if isinstance(answer, BadRecord):
        whole = answer.field == "query"
        raise BadRecord(str(answer), field="query" if whole else f"documents.{index}.{answer.field}".rstrip("."))
    return answer
