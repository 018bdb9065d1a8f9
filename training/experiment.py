"""Which label makes the best ranker: the ablation of arXiv 2409.17460, and its trade-off over (α, β).

Content is human judgement; engagement is a simulation wherever these figures stand. Every ranker is trained on some
queries and measured on others; each query is measured once, in its fold. Of the simulation the ranker's features see
the days before ``World.until``, its label the days after it, and the measure of engagement is the truth behind both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.polarization import Polarization
from labelstream.schemas.ranking_label import RANKING_LABELS, RankingLabel
from labelstream.schemas.scale import Floats
from labelstream.training.features import FeatureTable
from labelstream.training.intervals import Draws, mean, measured, paired_difference, sums_of_values
from labelstream.training.judgments import JudgedPairs
from labelstream.training.progress import with_bar
from labelstream.training.ranking_metrics import add_to_cart_share, ndcg, rank
from labelstream.training.splits import query_folds

Score = Callable[[FeatureTable], NDArray[np.float32]]
TrainRanker = Callable[[FeatureTable, Floats, Sequence[str]], Score]

BASELINE = "engagement_only"
ALPHAS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
BETAS = (0.2, 0.35, 0.5, 0.65, 0.8)


@dataclass(frozen=True, eq=False)
class World:
    """What an experiment is made on; every array has shape (pairs,).

    Attributes:
        judged: Pairs with human ratings.
        content: Expected score of a labeller, in [0, 1].
        engagement: What the label is told of engagement, in [0, 1].
        carts: Expected adds to cart of each pair: the truth of the simulation.
        features: What the ranker sees.
    """

    judged: JudgedPairs
    content: Floats
    engagement: Floats
    carts: Floats
    features: FeatureTable


@dataclass(frozen=True, eq=False)
class Outcome:
    """One label, measured; NaN for a query on which a measure is not defined.

    Attributes:
        content_ndcg: NDCG@10 by human rating, linear gain; shape (queries,).
        atc: Share of the adds to cart in the first positions; shape (queries,).
    """

    content_ndcg: Floats
    atc: Floats

    def means(self) -> tuple[float, float]:
        """Both, averaged over the queries."""
        return float(np.nanmean(self.content_ndcg)), float(np.nanmean(self.atc))


@dataclass(frozen=True)
class Experiment:
    """Trains and measures rankers on one world.

    Args:
        world: See there.
        train: Trains a ranker on features, labels and queries.
        folds: Parts of the queries, each measured once.
        cutoff: Positions that count for ATC; of queries with no more products than that it says nothing.
        seed: Of the folds and intervals.
        resamples: Of the intervals.
    """

    world: World
    train: TrainRanker
    folds: int = 5
    cutoff: int = 10
    seed: int = 1
    resamples: int = 1000

    def outcome(self, label: RankingLabel, features: FeatureTable) -> Outcome:
        """Train with this label and measure, fold by fold.

        Raises:
            SettingsError: ATC is defined for no query.
        """
        judged = self.world.judged
        labels = label.label(self.world.content, self.world.engagement)
        scores = np.empty(len(judged))
        for training, test in query_folds(judged.queries, self.folds, seed=self.seed):
            queries = [judged.queries[pair] for pair in training]
            score = self.train(features.select(training), labels[training], queries)
            scores[test] = score(features.select(test))
        ranking = rank(judged.queries, judged.product_ids, scores)
        atc = add_to_cart_share(ranking, self.world.carts, k=self.cutoff)
        if np.isnan(atc).all():
            raise SettingsError(f"--cutoff {self.cutoff}: no query has more judged products; lower it")
        return Outcome(ndcg(ranking, judged.ratings), atc)

    def ablation(self) -> dict[str, Any]:
        """Every named label, with all features and without the cross-encoder.

        Returns:
            JSON: rows of label, features, both measures with 95 % intervals, and both differences to the baseline (the
            engagement-only label with all features) on the same queries.
        """
        tables = {"all": self.world.features, "without_cross_encoder": self.world.features.without("cross_encoder")}
        runs = [(name, seen) for seen in tables for name in RANKING_LABELS]
        found = {run: self.outcome(RANKING_LABELS[run[0]], tables[run[1]]) for run in with_bar(runs, "Ablation")}
        baseline = found[BASELINE, "all"]
        rows = [{"name": name, "features": seen} | self._row(one, baseline) for (name, seen), one in found.items()]
        return {"simulated": True, "baseline": BASELINE, "atc_cutoff": self.cutoff, "rows": rows}

    def _row(self, one: Outcome, baseline: Outcome) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name in ("content_ndcg", "atc"):
            values, before = getattr(one, name), getattr(baseline, name)
            sums = sums_of_values(values)
            row[name] = Draws(self.resamples, self.seed).measured(float(mean(sums.sum(axis=0))), sums, mean)
            change = paired_difference(before, values, resamples=self.resamples, seed=self.seed)
            row[f"{name}_delta"] = measured(change.difference, change.low, change.high)
        return row

    def trade_off(self, catalogue: str, *, engagement_weight: float = 0.5) -> dict[str, Any]:
        """Open question 1: the combined label over a grid of α and β.

        Args:
            catalogue: What to call it.
            engagement_weight: w of the combined label.

        Returns:
            JSON: a point for each (α, β), the baseline, the front of points that no other beats in both measures, and
            the chosen one with the rule that chose it.
        """
        grid = [(alpha, beta) for alpha in ALPHAS for beta in BETAS]
        points = []
        for alpha, beta in with_bar(grid, "α × β"):
            label = RankingLabel(
                polarization=Polarization(preset="custom", alpha=alpha, beta=beta),
                engagement_weight=engagement_weight,
            )
            content, atc = self.outcome(label, self.world.features).means()
            points.append({"alpha": alpha, "beta": beta, "content_ndcg": content, "atc": atc})
        content, atc = self.outcome(RANKING_LABELS[BASELINE], self.world.features).means()
        baseline = {"content_ndcg": content, "atc": atc}
        return {
            "simulated": True, "catalogue": catalogue, "atc_cutoff": self.cutoff, "points": points,
            "baseline": baseline, "front": front(points), "chosen": choose(points, baseline), "rule": RULE,
        }  # fmt: skip

    def summary(self, trade_off: Mapping[str, Any]) -> dict[str, Any]:
        """What ``metrics.json`` says of an experiment: that it is a simulation, on what, and which point was chosen."""
        judged = self.world.judged
        return {
            "simulated": True,
            "catalogue": trade_off["catalogue"],
            "data": {"pairs": len(judged), "queries": len(set(judged.query_numbers.tolist()))},
            "measures": {
                "content_ndcg": "NDCG@10, linear gain, people's ratings",
                "atc": f"ATC@{self.cutoff}, simulated; of queries with more than {self.cutoff} products",
            },
            "baseline": trade_off["baseline"],
            "chosen": trade_off["points"][trade_off["chosen"]],
            "rule": trade_off["rule"],
        }


KEPT = 0.99
RULE = (
    f"of the points that keep at least {KEPT:.0%} of the baseline's add-to-carts, the one with the best content NDCG; "
    "where none does, the one with the most add-to-carts"
)


def choose(points: Sequence[Mapping[str, float]], baseline: Mapping[str, float]) -> int:
    """Which point the ``RULE`` picks."""
    kept = [number for number, point in enumerate(points) if point["atc"] >= KEPT * baseline["atc"]]
    if not kept:
        return max(range(len(points)), key=lambda number: points[number]["atc"])
    return max(kept, key=lambda number: points[number]["content_ndcg"])


def front(points: Sequence[Mapping[str, float]]) -> list[int]:
    """The Pareto front: points that no other matches in one measure and beats in the other, by rising content."""
    pairs = [(point["content_ndcg"], point["atc"]) for point in points]

    def is_beaten(one: tuple[float, float]) -> bool:
        return any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in pairs)

    return sorted((n for n, one in enumerate(pairs) if not is_beaten(one)), key=lambda number: pairs[number])
