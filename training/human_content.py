"""Content as people judge it, for the gate: without it a lake has only its labeller's opinion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labelstream.schemas.keys import normalise_query
from labelstream.schemas.scale import Floats
from labelstream.training.features import FeatureTable, build_features
from labelstream.training.judgments import Integers, JudgedPairs
from labelstream.training.ranking_data import TrainingSnapshot
from labelstream.training.ranking_metrics import ndcg, rank

if TYPE_CHECKING:
    from labelstream.streaming.lake import Lake
    from labelstream.training.ranker import Ranker
    from labelstream.training.ranking_task import RankingTask


@dataclass(frozen=True, eq=False)
class HumanJudgements:
    """What people said of pairs, in the lake or not.

    Attributes:
        judged: The pairs; no ranker is trained on their queries.
        encoder_scores: The cross-encoder's; shape (pairs,), NaN where there is none.
        sources: SHA-256 of the files that they were read from, by name.
    """

    judged: JudgedPairs
    encoder_scores: Floats
    sources: Mapping[str, str]

    def without(self, queries: tuple[str, ...], pairs: Integers) -> Integers:
        """Those of some pairs whose query nobody has judged.

        Args:
            queries: Of all pairs, normalised.
            pairs: Positions in them.
        """
        known = {normalise_query(query) for query in self.judged.queries}
        return np.array([pair for pair in pairs if queries[pair] not in known], np.int64)

    def features(self, lake: Lake, task: RankingTask) -> FeatureTable:
        """Features as a ranker of the task knows them: words of its catalogue, engagement from before its window."""
        judged = self.judged
        data = TrainingSnapshot(lake, until=task.until, snapshot=task.snapshot)
        history = data.history(judged.queries, judged.product_ids)
        return build_features(
            judged.queries, judged.products, task.words, cross_encoder_scores=self.encoder_scores, history=history
        )

    def measure(self, ranker: Ranker, features: FeatureTable) -> Floats:
        """NDCG@10 by human rating with linear gain; shape (queries,), NaN where no product of a query is relevant."""
        scores = ranker.score(features.only(ranker.card.features)).astype(float)
        return ndcg(rank(self.judged.queries, self.judged.product_ids, scores), self.judged.ratings)
