"""What the HTTP layer needs of the models, without Ray: its one port to the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.http import ModelEntry, RerankModel
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.product import Product


@dataclass(frozen=True)
class AskedPair:
    """A pair that somebody asks about.

    Attributes:
        query: As typed, not yet normalised.
        product: An id (or alternative id) of the catalogue, or the product itself.
    """

    query: str
    product: str | Product


class Labelled(NamedTuple):
    """The label of one pair, and whether it had been judged before."""

    record: LabelRecord
    cached: bool


@dataclass(frozen=True)
class Ranking:
    """Scores of the documents of one query.

    Attributes:
        model: What ranked.
        version: Which one.
        scores: In the order of the documents, in [0, 1]; higher is better.
    """

    model: RerankModel
    version: str
    scores: Sequence[float]


@dataclass(frozen=True)
class Request:
    """What goes with a request through all layers.

    Attributes:
        id: In the logs, in the answer, and in the rows of labels that are kept.
        deadline: Of ``time.monotonic()``; work that cannot end by then is dropped.
        token_name: Who asks; empty for anonymous.
    """

    id: str
    deadline: float
    token_name: str = ""
    notes: dict[str, str | int | float] = field(default_factory=dict)  # what the log line should say


class Services(Protocol):
    """The models behind the endpoint.

    Every method may raise ``ModelUnavailable`` (a model is restarting: 503) and ``TimeoutError`` (the deadline: 504).
    """

    async def label(self, pairs: Sequence[AskedPair], request: Request, *, cross_encoder: bool) -> list[
        Labelled | BadRecord
    ]:  # fmt: skip
        """Labels in the order of the pairs; an unknown product or a text that cannot be judged is a BadRecord."""
        ...

    async def rerank(
        self, query: str, documents: Sequence[str | Product], request: Request, *, model: RerankModel | None
    ) -> Ranking:
        """Score documents.

        Args:
            query: As typed.
            documents: Ids of the catalogue, or products.
            request: See ``Request``.
            model: By which; None for the best that there is.

        Raises:
            BadRecord: An unknown product (``field`` is its path, such as ``documents.3.product_id``), or a model that
                does not answer here (``field`` is ``model``).
        """
        ...

    async def models(self) -> list[ModelEntry]:
        """What answers here."""
        ...

    async def waiting_for(self) -> list[str]:
        """Names of what does not answer yet; empty when ready."""
        ...

    async def metrics(self) -> str:
        """Prometheus text of everything behind the endpoint: models, stream, lake."""
        ...
