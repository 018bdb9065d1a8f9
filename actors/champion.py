"""The champion ranker of the registry, loaded and tried before anybody is ranked with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from labelstream.schemas.errors import BadRecord, ModelUnusable
from labelstream.training.features import FEATURES, FeatureTable
from labelstream.training.ranker import Ranker
from labelstream.training.ranking_matrix import xgboost
from labelstream.training.registry import Entry, Registry
from labelstream.training.retraining import KIND

CROSS_ENCODER = "cross_encoder_score"


class Champion(NamedTuple):
    """A ranker in memory: its files may be pruned while it ranks.

    Attributes:
        entry: What the registry says of it.
        ranker: The trees.
        needs_cross_encoder: Whether a tree looks at the cross-encoder's score.
    """

    entry: Entry
    ranker: Ranker
    needs_cross_encoder: bool

    @classmethod
    def load(cls, entry: Entry) -> Champion:
        """Load a champion.

        Raises:
            ModelUnusable: It cannot be read, knows other features than we do, or cannot score.
        """
        ranker = Ranker.load(entry.folder)
        names = ranker.card.features
        if unknown := set(names) - {feature.name for feature in FEATURES}:
            raise ModelUnusable(
                f"ranker {entry.version} wants features that this labelstream does not have "
                f"({', '.join(sorted(unknown))}); retrain, or update labelstream"
            )
        try:
            ranker.score(FeatureTable(names, np.full((1, len(names)), np.nan, np.float32)))
        except xgboost.core.XGBoostError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelUnusable(f"ranker {entry.version} cannot score ({reason}); train it again") from error
        # The name of a feature that no tree splits on is not among the weights.
        return cls(entry, ranker, CROSS_ENCODER in ranker.booster.get_score(importance_type="weight"))


def no_champion() -> BadRecord:
    """What somebody hears who asks for a ranker where nobody has been promoted."""
    return BadRecord(
        "model: no ranker has been promoted; run labelstream retrain, or ask for cross-encoder or labeller",
        field="model",
    )


def read_champion(registry: Registry, before: Champion | None) -> Champion | None:
    """Ask the registry for the champion.

    Args:
        registry: Whose.
        before: Who it was; comes back where it still is, also when the registry has lost all memory of it.

    Raises:
        ModelUnusable: The new one cannot be used.
        SettingsError: The registry's records are damaged.
        TransientError: Its storage does not answer.
    """
    entry = registry.champion(KIND)
    if entry is None or (before is not None and before.entry == entry):
        return before
    if before is not None and before.entry.version == entry.version:
        return before._replace(entry=entry)
    return Champion.load(entry)
