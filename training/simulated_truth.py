"""What simulated shoppers are like: how often each pair would be clicked, put into the cart and bought.

The truth of a SIMULATION: no figure here comes from people, but for the relevance levels of the judged pairs. Per pair,
with v the worth of its level in [0, 1]:

- popularity of the product: log-normal, so heavy-tailed, exp(spread · z), with z drawn from the product id;
- a share of the products is popular whatever they are shown for: their v counts as 1. On pairs of the worst level this
  is what makes engagement misleading: popular, but irrelevant;
- attractiveness, the chance of a click when looked at: odds(0.03^(1 − v) · 0.35^v) · popularity, as a probability;
- an add to cart after a click: 0.03^(1 − v) · 0.30^v; a purchase after that: 0.20^(1 − v) · 0.50^v.

The constants are ours. Draws come from names and the world's seed, not from a sequence: a pair has the same truth
whichever pairs stand beside it, and another seed for the sessions leaves it as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from scipy.special import ndtri

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.scale import Floats, LabelScale
from labelstream.training.durable_files import whole_file
from labelstream.training.judgments import JudgedPairs

Integers = NDArray[np.int64]

_CLICK, _CART, _PURCHASE = (0.03, 0.35), (0.03, 0.30), (0.20, 0.50)  # at the worst and at the best level
_METADATA = b"labelstream_simulation"


class SimulationSettings(BaseModel):
    """What is simulated. The same settings and pairs give the same log, byte for byte."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sessions: int = Field(default=20_000, ge=1, description="Queries sent.")
    seed: int = Field(default=1, ge=0, description="Of the sessions.")
    world_seed: int = Field(default=0, ge=0, description="Of products' popularity and of the ranker's errors.")
    page: int = Field(default=20, ge=1, le=300, description="Products shown for a query.")
    examination_exponent: float = Field(
        default=1.0, ge=0, le=5, description="η: the chance that rank k is looked at is θ_k = 1 / k^η."
    )
    popular_share: float = Field(
        default=0.15, ge=0, le=1, description="Share of products that draw clicks and carts whatever their relevance."
    )
    popularity_spread: float = Field(default=1.0, ge=0, le=5, description="Spread of the log of popularity.")
    zipf_exponent: float = Field(
        default=1.0, ge=0, le=5, description="The r-th query is sent in proportion to 1 / r to this power."
    )
    ranker_noise: float = Field(
        default=0.5, ge=0, le=100, description="Errors of the ranker that the shop has, beside worth in [0, 1]."
    )
    shuffle: float = Field(
        default=3.0, ge=0, le=1000, description="Places that a product moves by chance, each session anew (deviation)."
    )
    start: date = Field(default=date(2026, 1, 1), description="First day, in UTC.")
    days: int = Field(default=28, ge=1, le=3650, description="Days that the sessions are spread over evenly.")

    @field_validator("days")
    @classmethod
    def _days_end_in_the_calendar(cls, days: int, info: ValidationInfo) -> int:
        start = info.data.get("start")
        if start is not None and days > (date.max - start).days:
            raise ValueError(f"{days} days from {start} reach beyond {date.max}; start earlier")
        return days


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The truth of a simulation, in the order of the judged pairs; every array but ``theta`` has shape (pairs,).

    Attributes:
        settings: What was simulated.
        theta: Chance that a rank is looked at, shape (page,); 1 at the first.
        queries: Normalised.
        product_ids: As the catalogue has them.
        levels: Judged relevance, 0 is the worst.
        popularity: Factor on the odds of a click; 1 is the median product.
        popular: Whether the product draws clicks and carts whatever its relevance.
        attractiveness: Chance of a click when looked at.
        cart_probability: Chance of an add to cart after a click.
        purchase_probability: Chance of a purchase after an add to cart.
    """

    settings: SimulationSettings
    theta: Floats
    queries: tuple[str, ...]
    product_ids: tuple[str, ...]
    levels: Integers
    popularity: Floats
    popular: NDArray[np.bool_]
    attractiveness: Floats
    cart_probability: Floats
    purchase_probability: Floats

    @property
    def add_to_cart_rate(self) -> Floats:
        """Expected adds to cart for each look."""
        return self.attractiveness * self.cart_probability

    @property
    def popular_irrelevant(self) -> NDArray[np.bool_]:
        """Pairs of the worst level that shoppers go for all the same."""
        return np.asarray(self.popular & (self.levels == 0))

    def save(self, path: Path) -> None:
        """Write a Parquet file, whole or not at all; settings and θ are in its metadata, as JSON.

        Raises:
            SettingsError: The file may not be written.
            TransientError: The disk is full, or does not answer.
        """
        facts = {"settings": self.settings.model_dump(mode="json"), "theta": self.theta.tolist()}
        columns: dict[str, Any] = {"query": self.queries, "product_id": self.product_ids}
        columns |= {name: getattr(self, name) for name in _COLUMNS}
        derived = {name: getattr(self, name) for name in ("add_to_cart_rate", "popular_irrelevant")}
        table = pa.table(columns | derived).replace_schema_metadata({_METADATA: json.dumps(facts)})
        with whole_file(path) as file:
            pq.write_table(table, file)


_COLUMNS = ("levels", "popularity", "popular", "attractiveness", "cart_probability", "purchase_probability")


def ground_truth(judged: JudgedPairs, scale: LabelScale, settings: SimulationSettings) -> GroundTruth:
    """The truth for judged pairs (see the module).

    Args:
        judged: Each pair once.
        scale: That of their levels.
        settings: See there.

    Raises:
        SettingsError: No pair, or a pair twice.
    """
    queries = tuple(map(normalise_query, judged.queries))
    product_ids = tuple(product.product_id for product in judged.products)
    if not queries or len(set(zip(queries, product_ids, strict=True))) < len(queries):
        raise SettingsError(f"{len(queries)} judged pairs: give at least one, and each pair of query and product once")
    popular = uniform("popular", product_ids, settings.world_seed) < settings.popular_share
    popularity = np.exp(settings.popularity_spread * normal("popularity", product_ids, settings.world_seed))
    worth = np.where(popular, 1.0, scale.values[judged.levels])
    click = _between(_CLICK, worth)
    odds = click / (1 - click) * popularity
    return GroundTruth(
        settings=settings,
        theta=np.asarray(np.arange(1.0, settings.page + 1) ** -settings.examination_exponent, np.float64),
        queries=queries,
        product_ids=product_ids,
        levels=judged.levels,
        popularity=popularity,
        popular=popular,
        attractiveness=odds / (1 + odds),
        cart_probability=_between(_CART, worth),
        purchase_probability=_between(_PURCHASE, worth),
    )


def _between(ends: tuple[float, float], worth: Floats) -> Floats:
    worst, best = ends
    return np.asarray(worst ** (1 - worth) * best**worth)


def uniform(purpose: str, names: Sequence[str], seed: int) -> Floats:
    """A number in (0, 1) for each name, that depends on nothing but the three arguments; shape (names,)."""
    keys = (f"{seed} {purpose} {name}".encode("utf-8", "surrogatepass") for name in names)
    drawn = [int.from_bytes(hashlib.blake2b(key, digest_size=6).digest()) for key in keys]
    return (np.array(drawn) + 0.5) / 2**48


def normal(purpose: str, names: Sequence[str], seed: int) -> Floats:
    """As :func:`uniform`, but drawn from the standard normal distribution."""
    return np.asarray(ndtri(uniform(purpose, names, seed)))
