"""The Ray actor that ranks products by the champion ranker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Self

import numpy as np
from scipy.special import expit

from labelstream.actors.actor_names import ranker_name
from labelstream.actors.actor_process import log_as_an_actor
from labelstream.actors.asked_pairs import unknown_product
from labelstream.actors.busy_meter import BusyMeter, WorkReport
from labelstream.actors.champion import Champion, no_champion, read_champion
from labelstream.actors.ranking_context import RankingContext, read_context
from labelstream.actors.remote import CALLS_AT_ONCE, actor_options
from labelstream.actors.watch import Watch
from labelstream.schemas.errors import BadRecord
from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats
from labelstream.schemas.settings import Settings
from labelstream.training.features import FeatureTable, build_features
from labelstream.training.registry import Registry

# More than one, so that a small request does not wait for a large one; Python computes for one at a time anyway.
_THREADS = 4


@dataclass(frozen=True, eq=False)
class RankedDocuments:
    """Scores of the documents of one query.

    Attributes:
        scores: In the order of the documents, shape (documents,), in [0, 1], higher is better; NaN for an error. The
            logistic of the trees' score: it keeps their order, and means nothing beyond the answer that it stands in.
        version: The ranker's.
        errors: By the document's position.
        lacks_scores: The ranker looks at the cross-encoder's scores, and was given none.
    """

    scores: Floats
    version: str
    errors: Mapping[int, BadRecord]
    lacks_scores: bool


@dataclass(frozen=True)
class RankerDescription:
    """Which ranker this is, and what it knows.

    Attributes:
        version: In the registry.
        promoted_at: When it became champion.
        features: What it looks at, in order.
        needs_cross_encoder: Whether its order depends on the cross-encoder's scores.
        snapshot: Of the lake that catalogue and engagement are from; None while there is no lake.
        products: Number of products in the catalogue.
    """

    version: str
    promoted_at: datetime
    features: tuple[str, ...]
    needs_cross_encoder: bool
    snapshot: int | None
    products: int


def today_in_utc() -> date:
    """Today does not count for a history, as the days of the window do not in training."""
    return datetime.now(UTC).date()


class ProductRanker:
    """Ranks by the newest champion, with features made as in training (``build_features``).

    Champion, and catalogue with engagement, are looked up again in the background and replaced while requests run. A
    request works to its end with those that it began with. A champion that cannot be used is logged, and the one
    before stays; without a lake everything is a product that nobody has seen.

    Memory: see ``Catalogue`` and ``PastEngagement``; while a new snapshot is read, that of the old and the new one.

    Args:
        settings: Where ``endpoint``, ``lake`` and ``registry`` matter.
        today: The first day whose engagement does not count.
    """

    def __init__(self, settings: Settings, *, today: Callable[[], date] = today_in_utc) -> None:
        registry = Registry(settings.registry.folder)
        self._champion: Watch[Champion | None] = Watch(
            "ranker", partial(read_champion, registry), None, settings.endpoint.champion_interval_s
        )
        self._context = Watch(
            "catalogue",
            lambda before: read_context(settings.lake, today(), before),
            RankingContext.empty(),
            settings.endpoint.catalogue_interval_s,
        )

    def __enter__(self) -> Self:
        for watch in (self._champion, self._context):
            watch.look()
            watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._champion.close()
        self._context.close()

    def rank(
        self, query: str, documents: Sequence[str | Product], cross_encoder_scores: Sequence[float] | None = None
    ) -> RankedDocuments:
        """Score documents.

        Args:
            query: As typed.
            documents: Ids (or alternative ids) of the catalogue, or products. Engagement goes by a product's id.
            cross_encoder_scores: One for each document; without them the feature is missing, and the answer says
                whether that matters.

        Raises:
            BadRecord: There is no champion (``field`` is ``model``).
            ValueError: Not one score for each document.
        """
        champion, context = self._champion.value, self._context.value
        if champion is None:
            raise no_champion()
        given = _given(cross_encoder_scores, len(documents))
        lacks_scores = champion.needs_cross_encoder and cross_encoder_scores is None
        found = _find(documents, context)
        errors = {number: error for number, error in enumerate(found) if isinstance(error, BadRecord)}
        products = [product for product in found if isinstance(product, Product)]
        known = np.array([number not in errors for number in range(len(found))], bool)
        scores = np.full(len(found), np.nan)
        scores[known] = expit(_score(champion, context, query, products, given[known]))
        return RankedDocuments(scores, champion.entry.version, errors, lacks_scores)

    def describe(self) -> RankerDescription | None:
        """Who ranks now; None where nobody has been promoted."""
        champion, context = self._champion.value, self._context.value
        if champion is None:
            return None
        return RankerDescription(
            champion.entry.version,
            champion.entry.promoted_at,
            champion.ranker.card.features,
            champion.needs_cross_encoder,
            context.snapshot,
            len(context.catalogue),
        )


def _given(scores: Sequence[float] | None, documents: int) -> Floats:
    """The cross-encoder's scores, NaN where there are none: so training has it for labels without one."""
    if scores is None:
        return np.full(documents, np.nan)
    if len(scores) != documents:
        raise ValueError(f"{documents} documents and {len(scores)} cross-encoder scores: must be one for one")
    return np.asarray(scores, float)


def _find(documents: Sequence[str | Product], context: RankingContext) -> list[Product | BadRecord]:
    """The products, and an error for each id that the catalogue lacks."""
    catalogued = context.catalogue.find([document for document in documents if isinstance(document, str)])
    return [
        document if isinstance(document, Product) else catalogued.get(document) or _unknown(number, document)
        for number, document in enumerate(documents)
    ]


def _unknown(number: int, product_id: str) -> BadRecord:
    return unknown_product(product_id, f"documents.{number}.product_id")


def _score(
    champion: Champion, context: RankingContext, query: str, products: Sequence[Product], cross_encoder_scores: Floats
) -> Floats:
    """The trees' scores; double precision, because the logistic would make equals of high ones in single."""
    features: FeatureTable = build_features(
        [query] * len(products),
        products,
        context.catalogue.index,
        cross_encoder_scores=cross_encoder_scores,
        history=context.engagement.history(query, [product.product_id for product in products]),
    )
    return champion.ranker.score(features.only(champion.ranker.card.features)).astype(float)


class RankerActor:
    """The ranker as an actor; it is ready when champion and catalogue are loaded.

    Start it with ``ray.remote(RankerActor).options(**ranker_options(settings)).remote(settings)``.

    Args:
        settings: See ``ProductRanker``, which also says how much memory it takes.
    """

    def __init__(self, settings: Settings) -> None:
        log_as_an_actor(settings)
        self._ranker = ProductRanker(settings).__enter__()
        self._meter = BusyMeter()
        self._workers = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="ranker")

    async def rank(
        self, query: str, documents: Sequence[str | Product], cross_encoder_scores: Sequence[float] | None = None
    ) -> RankedDocuments:
        """See ``ProductRanker.rank``."""
        with self._meter.batch():
            loop = asyncio.get_running_loop()
            ranked = await loop.run_in_executor(
                self._workers, self._ranker.rank, query, documents, cross_encoder_scores
            )
            self._meter.count(pairs=len(documents))
        return ranked

    async def describe(self) -> RankerDescription | None:
        """See ``ProductRanker.describe``."""
        return self._ranker.describe()

    async def ping(self) -> bool:
        """Whether the actor answers."""
        return True

    async def report(self) -> WorkReport:
        """What it has done since it started."""
        return self._meter.report()


def ranker_options(settings: Settings) -> dict[str, Any]:
    """Ray's options for the ``RankerActor``."""
    return actor_options(settings, ranker_name(), max_concurrency=CALLS_AT_ONCE)
