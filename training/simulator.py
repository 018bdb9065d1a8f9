"""A SIMULATION of shoppers for judged pairs: who sends which query when, what is shown, and what is done with it.

A session is one query and what follows it. Queries are sent by a Zipf law. The shop's ranker is right about relevance
but for errors of its own; each session moves every product by chance, which is what tells examination from
attractiveness. Shoppers follow the position-based click model (Craswell et al., WSDM 2008): what is at rank k is looked
at with probability θ_k = 1/k^η, and what was looked at is clicked by its attractiveness; carts follow clicks, purchases
follow carts (see ``training.simulated_truth``). A session ends on the day that it began, so that days divide the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np

from labelstream.schemas.scale import Floats, LabelScale
from labelstream.training.engagement_counts import ACTIONS, EngagementCounts
from labelstream.training.judgments import JudgedPairs
from labelstream.training.simulated_truth import Integers, SimulationSettings, ground_truth, normal

NOTHING = -1

_BLOCK = 4096  # sessions that are drawn at once
_SESSIONS_A_SHOPPER = 5
_DAY_MS, _OPEN_MS = 86_400_000, 82_800_000  # nobody begins in the last hour of a day


class SessionBlock(NamedTuple):
    """Sessions as numbers.

    Attributes:
        first: Number of the first of them.
        query: Index into the simulation's queries; shape (sessions,).
        time: When they begin, in epoch milliseconds, ascending; shape (sessions,).
        shopper: Shape (sessions,).
        shown: Pair at each rank, ``NOTHING`` below the last product; shape (sessions, ranks).
        steps: 0 for an impression alone, 1 with a click, 2 with an add to cart, 3 with a purchase; as ``shown``.
    """

    first: int
    query: Integers
    time: Integers
    shopper: Integers
    shown: Integers
    steps: Integers


class Simulation:
    """Sessions of simulated shoppers; the same arguments give the same ones, each time that they are asked for.

    Args:
        judged: The pairs, each once; a query shows its own.
        scale: That of their levels.
        settings: See there.
        scores: What the shop's ranker thinks of each pair, more is better, shape (pairs,); None for the worth of the
            level, blurred by ``ranker_noise``.

    Attributes:
        settings: As given.
        truth: What the shoppers are like, in the order of the pairs.
        queries: The different queries, as the judged pairs write them first.
        run: Tells this simulation from others.

    Raises:
        SettingsError: No pair, or a pair twice.
    """

    def __init__(
        self, judged: JudgedPairs, scale: LabelScale, settings: SimulationSettings, scores: Floats | None = None
    ) -> None:
        self.settings, self.truth = settings, ground_truth(judged, scale, settings)
        if scores is None:
            names = [f"{query}\0{product}" for query, product in zip(self.truth.queries, self.product_ids, strict=True)]
            errors = normal("ranker", names, settings.world_seed)
            scores = scale.values[judged.levels] + settings.ranker_noise * errors
        number = {query: number for number, query in enumerate(dict.fromkeys(self.truth.queries))}
        self._rankings = _rankings(np.array([number[query] for query in self.truth.queries]), scores)
        written = dict(zip(reversed(self.truth.queries), reversed(judged.queries), strict=True))
        self.queries = tuple(written[query] for query in number)
        self.run = self._digest()

    @property
    def product_ids(self) -> tuple[str, ...]:
        """Product of each pair."""
        return self.truth.product_ids

    def _digest(self) -> str:
        digest = hashlib.blake2b(self.settings.model_dump_json().encode(), digest_size=6)
        digest.update(repr((self.truth.queries, self.product_ids)).encode("utf-8", "surrogatepass"))
        for numbers in (self.truth.levels, self._rankings):
            digest.update(np.ascontiguousarray(numbers).tobytes())
        return digest.hexdigest()

    def blocks(self) -> Iterator[SessionBlock]:
        """All sessions in the order of time, some thousand at once."""
        settings, rng = self.settings, np.random.default_rng(self.settings.seed)
        queries, shoppers = len(self.queries), -(-settings.sessions // _SESSIONS_A_SHOPPER)
        sent = rng.permutation(np.arange(1, queries + 1) ** -settings.zipf_exponent)
        moments = np.sort(rng.integers(settings.days * _OPEN_MS, size=settings.sessions))
        opening = round(datetime.combine(settings.start, datetime.min.time(), UTC).timestamp() * 1000)
        times = opening + moments // _OPEN_MS * _DAY_MS + moments % _OPEN_MS
        for first in range(0, settings.sessions, _BLOCK):
            time = times[first : first + _BLOCK]
            query = rng.choice(queries, len(time), p=sent / sent.sum())
            shown = self._pages(rng, query)
            yield SessionBlock(first, query, time, rng.integers(shoppers, size=len(time)), shown, self._act(rng, shown))

    def _pages(self, rng: np.random.Generator, query: Integers) -> Integers:
        """The ranking of each query, every product moved by chance; the first page of it."""
        ranking = self._rankings[query]
        place = np.arange(ranking.shape[1]) + self.settings.shuffle * rng.standard_normal(ranking.shape)
        order = np.argsort(np.where(ranking == NOTHING, np.inf, place), axis=1)
        return np.take_along_axis(ranking, order[:, : self.settings.page], axis=1)

    def _act(self, rng: np.random.Generator, shown: Integers) -> Integers:
        """How far shoppers go with each product shown; every step needs the one before."""
        truth, ranks = self.truth, shown.shape[1]
        clicked = truth.theta[:ranks] * truth.attractiveness[shown]
        going, steps = shown != NOTHING, np.zeros_like(shown)
        for chance in (clicked, truth.cart_probability[shown], truth.purchase_probability[shown]):
            going &= rng.random(shown.shape) < chance
            steps += going
        return steps

    def counts(self, until: date | None = None, since: date | None = None) -> EngagementCounts:
        """What the lake has counted once the log went through it.

        Args:
            until: Only days before this one, in UTC; None for all.
            since: Only this day and those after it; None for all.

        Returns:
            Pairs in the order of the judged ones, those that were never shown among them.
        """
        ranks = self._rankings.shape[1]
        size = len(self.product_ids) * ranks
        cells = np.zeros((1 + len(ACTIONS), size), np.int64)
        for block in self.blocks():
            today = (block.time // _DAY_MS).astype("datetime64[D]")
            wanted = (today >= np.datetime64(since or date.min)) & (today < np.datetime64(until or date.max))
            shown, steps = block.shown[wanted], block.steps[wanted]
            seen = shown != NOTHING
            cell = (shown * ranks + np.arange(shown.shape[1]))[seen]
            for step in range(len(cells)):
                cells[step] += np.bincount(cell[steps[seen] >= step], minlength=size)
        used = np.flatnonzero(cells[0])
        pair, rank = np.divmod(used, ranks)
        impressions, *actions = cells[:, used]
        names = self.truth.queries, self.product_ids
        return EngagementCounts(*names, pair, rank + 1, impressions, np.stack(actions, axis=1))


def _rankings(query: Integers, scores: Floats) -> Integers:
    """Pairs of each query, best first, filled up with ``NOTHING``; shape (queries, most pairs of a query)."""
    sizes = np.bincount(query)
    order = np.lexsort((-scores, query))
    place = np.arange(len(query)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rankings = np.full((len(sizes), sizes.max()), NOTHING)
    rankings[query[order], place] = order
    return rankings
