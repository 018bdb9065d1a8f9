"""Judged pairs with simulated shoppers, as the world of an experiment. All engagement in it is invented."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from labelstream.schemas.learning_settings import EngagementSettings
from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats, LabelScale
from labelstream.training.engagement import estimate_engagement
from labelstream.training.engagement_counts import EngagementCounts
from labelstream.training.experiment import World
from labelstream.training.features import EngagementHistory, build_features
from labelstream.training.judgments import Integers, JudgedPairs
from labelstream.training.lexical import LexicalIndex
from labelstream.training.simulated_truth import SimulationSettings
from labelstream.training.simulator import Simulation


def simulated_world(
    judged: JudgedPairs,
    products: Sequence[Product],
    scale: LabelScale,
    *,
    content: Floats,
    encoder_scores: Floats,
    sessions: int,
    world_seed: int,
    engagement: EngagementSettings | None = None,
) -> World:
    """Simulate a log, and split its days: features see the first half, the label's engagement the second.

    Args:
        judged: Each pair once.
        products: The whole catalogue.
        scale: Of the levels.
        content: A labeller's expected scores; shape (pairs,).
        encoder_scores: A cross-encoder's; shape (pairs,).
        sessions: Of the simulation.
        world_seed: Of its products' popularity.
        engagement: How actions are weighed; None for the defaults.
    """
    settings = SimulationSettings(sessions=sessions, world_seed=world_seed)
    simulation = Simulation(judged, scale, settings)
    until = settings.start + timedelta(days=settings.days // 2)
    history = EngagementHistory(until, *_counts_by_pair_and_product(simulation.counts(until=until), judged))
    features = build_features(
        judged.queries, judged.products, LexicalIndex(products), cross_encoder_scores=encoder_scores, history=history
    )
    found = estimate_engagement(simulation.counts(since=until), engagement)
    return World(
        judged, content, found.of(judged.queries, judged.product_ids), simulation.truth.add_to_cart_rate, features
    )


def _counts_by_pair_and_product(counts: EngagementCounts, judged: JudgedPairs) -> tuple[Integers, Integers]:
    """Impressions and actions of each judged pair, and of its product over all queries; shape (pairs, 4) each."""
    cells = np.column_stack([counts.impressions, counts.actions])
    pairs = np.zeros((len(judged), cells.shape[1]), np.int64)
    np.add.at(pairs, counts.pair, cells)  # the simulation keeps the order of the judged pairs
    _, number = np.unique(judged.product_ids, return_inverse=True)
    products = np.zeros((int(number.max()) + 1, cells.shape[1]), np.int64)
    np.add.at(products, number, pairs)
    return pairs, products[number]
