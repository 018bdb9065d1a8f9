from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakes import a_commit, lake_settings
from test_simulator import judged_pairs

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.learning_settings import EngagementSettings
from labelstream.schemas.scale import LabelScale
from labelstream.schemas.tables import ENGAGEMENT
from labelstream.streaming.commit import rows
from labelstream.streaming.lake import Lake
from labelstream.training.engagement import (
    engagement_of,
    estimate_engagement,
    moment_prior,
)
from labelstream.training.engagement_counts import NO_POSITION, EngagementCounts, read_counts
from labelstream.training.examination import estimate_examination
from labelstream.training.simulated_truth import SimulationSettings
from labelstream.training.simulator import Simulation

DAY = date(2026, 3, 4)


def counts_of(*cells: tuple[str, str, int | None, int, int, int, int]) -> EngagementCounts:
    """Cells of (query, product, position, impressions, clicks, carts, purchases)."""
    pairs = list(dict.fromkeys((query, product) for query, product, *_ in cells))
    numbers = np.array([cell[3:] for cell in cells], np.int64).reshape(-1, 4)
    return EngagementCounts(
        tuple(query for query, _ in pairs),
        tuple(product for _, product in pairs),
        np.array([pairs.index((query, product)) for query, product, *_ in cells], np.int64),
        np.array([NO_POSITION if cell[2] is None else cell[2] for cell in cells], np.int64),
        numbers[:, 0],
        numbers[:, 1:],
    )


cells = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from("pqrs"), st.sampled_from([None, 0, 1, 2, 7, 900]),
        st.integers(0, 50), st.integers(0, 60), st.integers(0, 9), st.integers(0, 9),
    ),
    min_size=1, max_size=12, unique_by=lambda cell: cell[:3],
)  # fmt: skip


def test_examination_is_told_from_attractiveness():
    """The ranker puts good products first, so that clicks by position alone would mislead."""
    settings = SimulationSettings(sessions=150_000, page=10, ranker_noise=0.1, shuffle=2.0, examination_exponent=0.8)
    simulation = Simulation(judged_pairs(queries=60, products=20), LabelScale(), settings)
    counts = simulation.counts()
    found = estimate_examination(counts)
    assert (found.first, found.theta[0]) == (1, 1.0)
    np.testing.assert_allclose(found.theta, simulation.truth.theta, rtol=0.05)
    naive = (
        np.bincount(counts.position, counts.actions[:, 0])[1:] / np.bincount(counts.position, counts.impressions)[1:]
    )
    assert (naive / naive[0] < 0.9 * simulation.truth.theta)[6:].all()


def test_many_rare_pairs_do_not_bias_examination():
    """A few impressions for each of many pairs: where estimating every attractiveness would go wrong."""
    settings = SimulationSettings(sessions=30_000, page=5, zipf_exponent=0, shuffle=2.0)
    simulation = Simulation(judged_pairs(queries=3000, products=6), LabelScale(), settings)
    counts = simulation.counts()
    assert counts.impressions.sum() / len(counts.queries) < 10
    np.testing.assert_allclose(estimate_examination(counts).theta, simulation.truth.theta, rtol=0.07)


@given(st.lists(st.floats(0.05, 1.5), min_size=1, max_size=5), st.sampled_from([0, 1, 5]))
def test_counts_without_noise_give_it_exactly(theta: list[float], first: int):
    true = np.array([1.0, *theta])
    attractive = {"p": 1_000_000, "q": 300_000, "r": 20_000}
    made = [
        ("a", product, first + rank, 10**9 * (1 + rank % 2), round(look * clicks * 1000 * (1 + rank % 2)), 0, 0)
        for product, clicks in attractive.items()
        for rank, look in enumerate(true)
    ]
    found = estimate_examination(counts_of(*made))
    assert found.first == first
    np.testing.assert_allclose(found.theta, true, rtol=1e-4)


def test_where_the_log_says_nothing_examination_falls_as_one_over_rank():
    alone = [("a", f"p{position}", position, 100, 5, 0, 0) for position in range(1, 6)]
    np.testing.assert_allclose(estimate_examination(counts_of(*alone)).theta, 1 / np.arange(1, 6), rtol=1e-4)


def test_positions_are_pooled_from_the_deepest_rank_on():
    made = [("a", product, position, 1000, 100, 0, 0) for product in "pq" for position in (1, 2, 3, 900_000)]
    found = estimate_examination(counts_of(*made), deepest_rank=3)
    assert len(found.theta) == 3
    assert found.at(np.array([1, 3, 4, 10**6])).tolist() == [1.0, *[found.theta[2]] * 3]


def test_a_count_without_a_position_has_the_mean_examination():
    found = estimate_examination(counts_of(("a", "p", 1, 300, 30, 0, 0), ("a", "p", 2, 100, 5, 0, 0)))
    mean = (300 + 100 * found.theta[1]) / 400
    assert found.at(np.array([NO_POSITION]))[0] == found.mean == pytest.approx(mean)


def test_without_positions_or_impressions_every_look_counts_the_same():
    none = estimate_examination(counts_of(("a", "p", None, 300, 30, 0, 0), ("a", "q", 4, 0, 3, 0, 0)))
    assert none.at(np.array([NO_POSITION, 1, 9])).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 18.0), (5.0, 5.0), (0.5, 40.0)])
def test_the_prior_is_found_by_its_moments(alpha: float, beta: float):
    rng = np.random.default_rng(7)
    looks = rng.integers(1, 200, 40_000).astype(float)
    actions = rng.poisson(looks * rng.beta(alpha, beta, len(looks))).astype(float)
    mean = alpha / (alpha + beta)
    found = moment_prior(actions, looks)
    assert found.mean == pytest.approx(mean, rel=0.03)
    # What a Gamma prior of the same mean and variance weighs, as the shrinkage uses it.
    assert found.strength == pytest.approx((alpha + beta + 1) / (1 - mean), rel=0.1)


def test_pairs_that_do_not_differ_all_get_the_mean():
    assert moment_prior(np.full(10, 5.0), np.full(10, 50.0)) == (0.1, 1e6)
    assert moment_prior(np.array([3.0]), np.array([4.0])).strength == 1e6
    assert moment_prior(np.zeros(3), np.full(3, 9.0)).mean == 0


@given(cells)
def test_whatever_was_counted_the_result_stays_on_its_scale(made: Any):
    counts = counts_of(*made)
    found = estimate_engagement(counts)
    for values in (found.rates, found.values, found.engagement):
        assert ((values >= 0) & (values <= 1)).all()
    assert (found.looks >= 0).all()
    assert found.of(counts.queries, counts.product_ids).tolist() == found.engagement.tolist()
    assert 0 <= found.of(["never"], ["never"])[0] <= 1


@given(cells, st.randoms(use_true_random=False))
def test_the_order_of_the_counts_does_not_matter(made: list[Any], random: Any):
    shuffled = made.copy()
    random.shuffle(shuffled)
    first, second = counts_of(*made), counts_of(*shuffled)
    again = estimate_engagement(second).of(first.queries, first.product_ids)
    np.testing.assert_allclose(estimate_engagement(first).engagement, again, atol=1e-5)


def sofa_counts() -> EngagementCounts:
    return counts_of(
        ("sofa", "loved", 1, 1000, 400, 100, 50),
        ("sofa", "loved", 2, 1000, 200, 50, 25),
        ("sofa", "hidden", 2, 1000, 100, 25, 12),
        ("sofa", "rare", 1, 2, 2, 1, 0),
        ("sofa", "ignored", 1, 1000, 10, 0, 0),
        ("lamp", "dull", 1, 5000, 5, 0, 0),
    )


def test_rates_are_freed_from_position_and_shrunk_where_little_is_known():
    found = estimate_engagement(sofa_counts())
    loved, hidden, rare, ignored, dull = found.rates[:, 0]
    assert loved == pytest.approx(0.4, rel=0.05)
    assert hidden == pytest.approx(0.2, rel=0.1)  # seen at the second rank, which gets half of the looks
    assert 0.1 < rare < 0.8  # two clicks of two looks say little
    assert ignored < 0.03
    assert dull < 0.01


def test_the_best_of_a_query_is_one_unless_it_is_below_the_mean_pair():
    found = estimate_engagement(sofa_counts())
    assert found.engagement[0] == 1.0
    assert found.engagement[4] == pytest.approx(found.values[4] / found.mean_value)
    assert found.engagement[4] < 0.1


def test_unseen_pairs_start_below_the_mean_and_spelling_does_not_matter():
    found = estimate_engagement(sofa_counts())
    asked = found.of([" SOFA ", "sofa", "bed"], ["loved", "new", "new"])
    assert found.unseen_value == pytest.approx(0.25 * found.mean_value)
    assert asked.tolist() == pytest.approx([1.0, found.unseen_value / found.values[0], 0.25])
    assert found.of([], []).shape == (0,)
    earned = estimate_engagement(sofa_counts(), EngagementSettings(unseen_share=0))
    assert earned.of(["sofa"], ["new"]).tolist() == [0.0]


def test_actions_without_impressions_count_as_seen_and_are_reported():
    found = estimate_engagement(counts_of(("a", "p", 1, 10, 2, 0, 0), ("a", "q", 3, 0, 4, 0, 1)))
    assert found.looks.tolist() == [10.0, 4.0]
    assert found.pairs_without_impressions == 1


def test_the_weights_decide_what_counts():
    counts = counts_of(("a", "clicked", 1, 100, 90, 0, 0), ("a", "bought", 1, 100, 30, 30, 30))
    clicks = estimate_engagement(counts, EngagementSettings(add_to_cart_weight=0, purchase_weight=0))
    assert clicks.engagement[0] > clicks.engagement[1]
    both = estimate_engagement(counts)
    assert both.engagement[1] > both.engagement[0]
    assert EngagementSettings().weights.tolist() == pytest.approx([1 / 9, 3 / 9, 5 / 9])
    with pytest.raises(SettingsError, match="click_weight"):
        estimate_engagement(counts, EngagementSettings(click_weight=0, add_to_cart_weight=0, purchase_weight=0))


def test_where_nothing_was_ever_done_engagement_is_nothing():
    found = estimate_engagement(counts_of(("a", "p", 1, 100, 0, 0, 0)))
    assert found.engagement.tolist() == [0.0]
    assert found.of(["a", "b"], ["q", "q"]).tolist() == [0.0, 0.0]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(lake_settings(tmp_path)) as lake:
        yield lake


def add(lake: Lake, *counted: tuple[int, str, str, int | None, int, int]) -> None:
    """Rows of (day, query, product, position, impressions, clicks)."""
    names = ("query", "product_id", "position", "impressions", "clicks")
    made = [
        {"day": DAY + timedelta(days=day), "add_to_carts": 0, "purchases": 1} | dict(zip(names, rest, strict=True))
        for day, *rest in counted
    ]
    first = next(iter(lake.offsets().values()), 0)
    lake.commit(a_commit(first, tables={ENGAGEMENT.name: rows(ENGAGEMENT, made)}))


def as_rows(counts: EngagementCounts) -> list[tuple[Any, ...]]:
    names = [(counts.queries[pair], counts.product_ids[pair]) for pair in counts.pair]
    columns = (counts.position.tolist(), counts.impressions.tolist(), counts.actions.tolist())
    return [(*name, *values) for name, *values in zip(names, *columns, strict=True)]


def test_the_lakes_increments_are_added_up_by_pair_and_position(lake: Lake):
    add(lake, (0, "b", "p", 1, 10, 1), (1, "b", "p", 1, 5, 2), (0, "b", "p", None, 0, 3), (0, "a", "q", 2, 4, 0))
    add(lake, (2, "b", "p", 1, 1, 1))
    counts = read_counts(lake)
    assert (counts.queries, counts.product_ids) == (("a", "b"), ("q", "p"))
    assert as_rows(counts) == [
        ("a", "q", 2, 4, [0, 0, 1]),
        ("b", "p", NO_POSITION, 0, [3, 0, 1]),
        ("b", "p", 1, 16, [4, 0, 3]),
    ]


def test_days_from_the_evaluation_window_on_are_not_read(lake: Lake):
    add(lake, *[(day, "a", "p", 1, 10**day, 1) for day in range(4)])
    assert read_counts(lake, until=DAY + timedelta(days=2)).impressions.tolist() == [11]
    assert read_counts(lake, since=DAY + timedelta(days=3)).impressions.tolist() == [1000]
    assert read_counts(lake, DAY + timedelta(days=3), DAY + timedelta(days=1)).impressions.tolist() == [110]
    assert read_counts(lake).impressions.tolist() == [1111]


def test_an_old_snapshot_stays_readable(lake: Lake):
    add(lake, (0, "a", "p", 1, 10, 1))
    then = lake.snapshot
    before = engagement_of(lake)
    add(lake, (0, "a", "p", 1, 90, 80), (0, "a", "q", 2, 9, 8))
    again = engagement_of(lake, snapshot=then)
    assert (again.queries, again.rates.tolist()) == (before.queries, before.rates.tolist())
    assert read_counts(lake, snapshot=then).impressions.tolist() == [10]
    assert len(engagement_of(lake).queries) == 2


def test_no_counts_and_no_such_snapshot_are_named(lake: Lake):
    with pytest.raises(SettingsError, match="no engagement"):
        engagement_of(lake)
    add(lake, (0, "a", "p", 1, 10, 1))
    with pytest.raises(SettingsError, match="2026-03-04"):
        engagement_of(lake, until=DAY)
    with pytest.raises(SettingsError, match="snapshot 9999"):
        engagement_of(lake, snapshot=9999)
