"""What the page's tests have behind the real HTTP layer: a model that counts words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from labelstream.actors.endpoint.services import AskedPair, Labelled, Ranking, Request
from labelstream.schemas.errors import BadRecord, LabelstreamError
from labelstream.schemas.http import ModelEntry, RerankModel
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.polarization import Polarization
from labelstream.schemas.product import Product
from labelstream.schemas.scale import LabelScale, expected_score

CATALOGUE = {"P1": "wireless mouse", "P2": "garden hose"}


class ServicesThatCountWords:
    """A title is the more relevant the more words of the query it has; the cross-encoder likes short ones.

    Attributes:
        asked: Pairs of each request for labels.
        ranked: Documents of each request for a ranking.
        failure: Raised instead of an answer.
        holds: Whether labels wait until this is false.
        version: Of every model.
        scale: Of the labels.
        polarization: Of the labels.
    """

    def __init__(self) -> None:
        self.asked: list[Sequence[AskedPair]] = []
        self.ranked: list[tuple[RerankModel | None, str, Sequence[str | Product]]] = []
        self.failure: LabelstreamError | None = None
        self.holds = False
        self.version = "v1"
        self.scale = LabelScale()
        self.polarization = Polarization()
        self._judged: set[tuple[str, str]] = set()

    async def label(self, pairs: Sequence[AskedPair], _: Request, *, cross_encoder: bool) -> list[Labelled | BadRecord]:
        assert not cross_encoder
        self.asked.append(pairs)
        while self.holds:
            await asyncio.sleep(0.005)
        if self.failure:
            raise self.failure
        return [self._label(pair) for pair in pairs]

    def _label(self, pair: AskedPair) -> Labelled | BadRecord:
        title = title_of(pair.product)
        if title is None:
            return BadRecord(f"there is no product {pair.product}", field="product_id")
        cached = (pair.query, title) in self._judged
        self._judged.add((pair.query, title))
        return Labelled(self.judge(pair.query, title), cached)

    def judge(self, query: str, title: str) -> LabelRecord:
        """A distribution that leans to the share of the query's words in the title."""
        words = query.lower().split()
        share = sum(word in title.lower() for word in words) / len(words)
        weights = np.exp(-4 * np.abs(self.scale.values - share))
        probabilities = weights / weights.sum()
        score = expected_score(probabilities, self.scale)
        return LabelRecord(
            label_key="k", query=query, product_id="", product_hash="h", probabilities=tuple(probabilities),
            level=self.scale.levels[int(probabilities.argmax())], expected_score=float(score),
            polarized_score=float(self.polarization(score)), model_version=self.version, prompt_version="p",
            scale_version=self.scale.version, judged_at=datetime(2026, 11, 21, tzinfo=UTC),
        )  # fmt: skip

    async def rerank(
        self, query: str, documents: Sequence[str | Product], _: Request, *, model: RerankModel | None
    ) -> Ranking:
        self.ranked.append((model, query, documents))
        titles = [title_of(document) or "" for document in documents]
        return Ranking(model or "cross-encoder", self.version, [1 / (1 + len(title)) for title in titles])

    async def models(self) -> list[ModelEntry]:
        """There is no ranker."""
        alpha, beta = self.polarization.parameters or (None, None)
        labeller = ModelEntry(
            id="labeller", version=self.version, levels=self.scale.levels, level_worths=tuple(self.scale.values),
            polarization_alpha=alpha, polarization_beta=beta,
        )  # fmt: skip
        return [labeller, ModelEntry(id="cross-encoder", version=self.version)]

    async def waiting_for(self) -> list[str]:
        return []

    async def metrics(self) -> str:
        return ""


def title_of(product: str | Product) -> str | None:
    """None for a product that the catalogue does not have."""
    return product.title if isinstance(product, Product) else CATALOGUE.get(product)


def plain(product: str | Product) -> Any:
    """A product as it was asked for."""
    return product if isinstance(product, str) else product.model_dump(exclude_unset=True)
