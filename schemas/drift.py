"""How far the mix of labels has moved."""

from __future__ import annotations

import numpy as np

from labelstream.schemas.scale import Floats

SMOOTHING = 0.5
# The usual reading of a PSI: stable below the first, moved above the second.
WORTH_A_LOOK, MOVED = 0.1, 0.25


def population_stability_index(reference: Floats, current: Floats) -> float:
    """PSI = Σ (c − r) ln(c / r) over the shares of the levels.

    Args:
        reference: Counts of each level in the reference, shape (levels,), not negative.
        current: Counts of each level now, same shape.

    Returns:
        Not negative; 0 for the same shares. Half a label is added to each count, so that an empty level does
        not make it infinite.

    Raises:
        ValueError: Shapes differ, or a count is negative or not finite.
    """
    if reference.shape != current.shape:
        raise ValueError(f"reference has shape {reference.shape}, current {current.shape}")
    if not (np.isfinite([reference, current]).all() and (reference >= 0).all() and (current >= 0).all()):
        raise ValueError("counts must be finite and not negative")
    r, c = ((counts + SMOOTHING) / (counts + SMOOTHING).sum() for counts in (reference, current))
    return float(((c - r) * np.log(c / r)).sum())
