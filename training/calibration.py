"""Temperature scaling: one number that makes a judge as sure as it is right."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from labelstream.schemas.scale import Floats

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(log_probabilities: Floats, targets: Floats) -> float:
    """The temperature of least cross-entropy (Guo et al. 2017, arXiv 1706.04599).

    Args:
        log_probabilities: Of the levels, or logits; shape (pairs, levels).
        targets: True levels, shape (pairs,), or wanted distributions, shape (pairs, levels).

    Returns:
        A number from 0.05 to 20; above 1 where the model is too sure of itself.
    """
    wanted = np.eye(log_probabilities.shape[1])[targets.astype(int)] if targets.ndim == 1 else targets

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(log_probabilities / np.exp(log_temperature), axis=1)
        return -float((wanted * scaled).sum(axis=1).mean())

    # The loss is convex in the inverse temperature, so one minimum is all there is.
    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return float(np.exp(found.x))
