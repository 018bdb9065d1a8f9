"""What a judge says who knows nothing; apart from all else, for processes that need no more."""

from __future__ import annotations

import numpy as np

from labelstream.schemas.judgements import JudgeDescription, Judgements

JUDGE = JudgeDescription("model", "prompt", "scale", 1.0)


def uniform(pairs: int, levels: int = 3) -> Judgements:
    """Judgements that know nothing."""
    return Judgements(np.full((pairs, levels), 1 / levels, np.float32), np.zeros(pairs, np.bool_))
