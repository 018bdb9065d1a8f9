"""How likely each position of a result page is looked at, estimated from counts.

In the position-based click model (Craswell et al., WSDM 2008) a click needs a look: P(click at rank k) = θ_k · a, with
a the attractiveness of the pair and θ_1 = 1. No experiment is needed where rankings move by themselves: a pair that was
shown at several ranks tells their θ apart (intervention harvesting, Agarwal et al., WSDM 2019). The estimator is
Poisson maximum likelihood with one effect for each pair,

    clicks_pk ~ Poisson(impressions_pk · θ_k · a_p), conditioned on all clicks of the pair, which removes a_p.

Only the mean must be right for it to be consistent (Wooldridge, Journal of Econometrics 90, 1999); many rare pairs do
not bias it, as they would if each a_p were estimated beside θ; and it is concave in log θ. A weak prior, θ_k = 1/k with
the weight of one click, decides where the log says nothing.

What it cannot know: a log whose applications count positions differently (from 0 and from 1), and clicks that change
for other reasons at the same time as the ranking does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from labelstream.schemas.scale import Floats
from labelstream.training.engagement_counts import NO_POSITION, EngagementCounts, Integers

_LOG_THETA_BOUNDS = (-12.0, 3.0)


class Examination(NamedTuple):
    """How likely a position is looked at, relative to the first one.

    Attributes:
        first: The position that θ is 1 for: the smallest of the log.
        theta: Shape (ranks,); the last one holds for all positions after it, too.
        mean: Mean over impressions, for counts without a position.
    """

    first: int
    theta: Floats
    mean: float

    def at(self, position: Integers) -> Floats:
        """θ of each position; same shape."""
        rank = np.clip(position - self.first, 0, len(self.theta) - 1)
        return np.where(position == NO_POSITION, self.mean, self.theta[rank])


def estimate_examination(counts: EngagementCounts, *, deepest_rank: int = 50, prior_clicks: float = 1.0) -> Examination:
    """θ of each rank by conditional Poisson likelihood (see the module).

    Args:
        counts: Only cells with a position and impressions are looked at; without any, θ is 1.
        deepest_rank: Positions from this rank on share one θ.
        prior_clicks: Weight of the prior θ_k = 1/k, in clicks at each rank; positive.
    """
    used = (counts.position != NO_POSITION) & (counts.impressions > 0)
    if not used.any():
        return Examination(1, np.ones(1), 1.0)
    position, impressions = counts.position[used], counts.impressions[used]
    first = int(position.min())
    rank = np.minimum(position - first, deepest_rank - 1)
    prior = -np.log1p(np.arange(rank.max() + 1) / max(first, 1))
    theta = np.exp(_log_theta(counts.pair[used], rank, impressions, counts.actions[used, 0], prior, prior_clicks))
    return Examination(first, theta, float(impressions @ theta[rank] / impressions.sum()))


def _log_theta(
    pair: Integers, rank: Integers, impressions: Integers, clicks: Integers, prior: Floats, prior_clicks: float
) -> Floats:
    """Maximise the conditional likelihood and the prior; log θ of the first rank stays 0.

    Args:
        pair: As ``rank``, ``impressions`` and ``clicks``, one entry for each cell.
        rank: From 0.
        impressions: Positive.
        clicks: As counted.
        prior: Centre of the prior of log θ; shape (ranks,).
        prior_clicks: Its weight.
    """
    _, pair = np.unique(pair, return_inverse=True)
    of_pair, of_rank = np.bincount(pair, clicks), np.bincount(rank, clicks, len(prior))
    total = max(float(of_pair.sum()), 1.0)

    def loss(free: Floats) -> tuple[float, Floats]:
        log_theta = np.concatenate(([0.0], free))
        weights = impressions * np.exp(log_theta)[rank]
        sums = np.bincount(pair, weights)
        away = log_theta - prior
        value = of_pair @ np.log(sums) - of_rank @ log_theta + prior_clicks / 2 * away @ away
        expected = np.bincount(rank, weights * (of_pair / sums)[pair], len(prior))
        return value / total, (expected - of_rank + prior_clicks * away)[1:] / total

    if len(prior) == 1:
        return prior
    bounds = [_LOG_THETA_BOUNDS] * (len(prior) - 1)
    options = {"ftol": 1e-14, "gtol": 1e-8, "maxiter": 1000}
    found = minimize(loss, prior[1:], jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.concatenate(([0.0], found.x))
