"""Labels from a teacher for pairs that nobody has judged, so that a model sees more than the judged queries.

Few queries are judged, and a network with millions of weights learns them by heart. A teacher of few degrees of
freedom, which sees the whole catalogue at once, generalises better from them (weak supervision: Dehghani et al. 2017,
arXiv 1704.08803) and hands on its distributions, not its choices (distillation: Hinton et al. 2015, arXiv 1503.02531).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product, product_text
from labelstream.schemas.scale import Floats
from labelstream.training.catalogue_index import CatalogueIndex
from labelstream.training.judgments import JudgedPairs
from labelstream.training.progress import with_bar
from labelstream.training.wanted_answers import wanted_distributions
from labelstream.training.weak_queries import catalogue_queries


class WeakPairs(NamedTuple):
    """Pairs with a teacher's answers.

    Attributes:
        queries: Shape (pairs,).
        products: Shape (pairs,).
        distributions: P(level), worst first; shape (pairs, levels).
    """

    queries: tuple[str, ...]
    products: tuple[Product, ...]
    distributions: Floats

    @property
    def texts(self) -> tuple[list[str], list[str]]:
        """The queries, and the product texts that models see."""
        return list(self.queries), [product_text(product) for product in self.products]


class Teacher:
    """Judges a pair by its signals in the catalogue: the mean of three classifiers of different kinds.

    It learns distributions, as the model that it teaches does: where people disagree it sees every level that they
    gave, weighted by how many gave it.

    Args:
        index: The catalogue.
        levels: Number of levels.
        seed: Of the classifiers.
        rater_share: See :func:`labelstream.training.wanted_answers.wanted_distributions`.
    """

    def __init__(self, index: CatalogueIndex, levels: int, *, seed: int, rater_share: float) -> None:
        self._index, self._levels, self._rater_share = index, levels, rater_share
        members = [
            ("linear", LogisticRegression(C=0.03, max_iter=5000)),
            ("trees", ExtraTreesClassifier(500, min_samples_leaf=8, max_features=0.4, n_jobs=-1, random_state=seed)),
            (
                "boosting",
                HistGradientBoostingClassifier(
                    max_iter=150, max_depth=3, learning_rate=0.05, min_samples_leaf=20, l2_regularization=10.0,
                    max_features=0.4, early_stopping=False, random_state=seed,
                ),
            ),
        ]  # fmt: skip
        self._members = VotingClassifier(members, voting="soft")
        self._classifier = make_pipeline(StandardScaler(), self._members)

    def fit(self, judged: JudgedPairs) -> Teacher:
        """Learn from judged pairs; those whose product the index lacks are passed over.

        Raises:
            SettingsError: There are not two levels to tell apart.
        """
        rows = np.array([self._index.row_of.get(product_id, -1) for product_id in judged.product_ids])
        known = np.flatnonzero(rows >= 0)
        wanted = wanted_distributions(judged.select(known), self._levels, self._rater_share)
        pairs, answers = np.nonzero(wanted)
        if len(np.unique(answers)) < 2:  # noqa: PLR2004 - one level teaches nothing
            raise SettingsError(
                f"a teacher needs judgements of two levels at least, and has {len(known)} pairs of products in the "
                "catalogue; give more judgements, or set --weak-pairs 0"
            )
        signals = self._signals([judged.queries[pair] for pair in known], rows[known], "Reading the catalogue")
        # None of the classifiers takes a distribution, all take weights: so a pair comes once for each of its levels.
        self._classifier.fit(signals[pairs], answers, votingclassifier__sample_weight=wanted[pairs, answers])
        # Threads would add up the trees' votes in any order, which shows in the last digit.
        self._members.named_estimators_["trees"].set_params(n_jobs=1)
        return self

    def distributions(self, queries: Sequence[str], rows: np.ndarray[Any, np.dtype[np.int64]]) -> Floats:
        """P(level) of (query, row of the catalogue); a level that no judged pair has gets 0.

        Returns:
            Shape (pairs, levels).
        """
        return self.answers(self._signals(queries, rows, "Labelling pairs by the teacher"))

    def answers(self, signals: Floats) -> Floats:
        """The same from signals of the index; shape (pairs, levels)."""
        found = np.zeros((len(signals), self._levels))
        found[:, self._classifier.classes_] = self._classifier.predict_proba(signals)
        return found

    def _signals(self, queries: Sequence[str], rows: np.ndarray[Any, np.dtype[np.int64]], task: str) -> Floats:
        names, numbers = np.unique(np.array(queries, dtype=object).astype(str), return_inverse=True)
        self._index.expect(names.tolist())
        parts: list[Floats] = []
        places: list[Any] = []
        for number, query in enumerate(with_bar(names.tolist(), task)):
            mine = np.flatnonzero(numbers == number)
            places.append(mine)
            parts.append(self._index.signals(query, rows[mine]))
        order = np.argsort(np.concatenate(places))
        return np.asarray(np.concatenate(parts)[order])


def make_weak_pairs(
    judged: JudgedPairs,
    index: CatalogueIndex,
    *,
    levels: int,
    count: int,
    seed: int,
    rater_share: float,
    queries: Sequence[str] = (),
) -> WeakPairs:
    """Make pairs, and have a teacher that has learned the judged ones label them.

    Args:
        judged: What the teacher learns; nothing held out may be in it.
        index: Of the whole catalogue.
        levels: Number of levels.
        count: About how many pairs.
        seed: Same input, same seed, same pairs.
        rater_share: Of the single raters' votes in what the teacher learns.
        queries: Queries to take first, such as those of a log; the catalogue gives the rest.

    Returns:
        Pairs of queries that are not among the judged ones.

    Raises:
        SettingsError: There is nothing to learn from, or no query to be made.
    """
    rng = np.random.default_rng(seed)
    per_query = len(index.candidates("a", rng))
    wanted = max(1, count // per_query)
    asked = list(dict.fromkeys(normalise_query(query) for query in queries))[: wanted // 2]
    asked = list(dict.fromkeys(asked + catalogue_queries(index.products, wanted - len(asked), seed=seed)))
    known = {normalise_query(query) for query in judged.queries}
    asked = [query for query in asked if query not in known]
    if not asked:
        raise SettingsError(
            f"a catalogue of {len(index.products):,} products gives no query that is not judged; set --weak-pairs 0"
        )
    teacher = Teacher(index, levels, seed=seed, rater_share=rater_share).fit(judged)
    index.expect(asked)
    names: list[str] = []
    products: list[Product] = []
    signals: list[Floats] = []
    for query in with_bar(asked, "Labelling pairs by the teacher"):
        rows = index.candidates(query, rng)
        names += [query] * len(rows)
        products += [index.products[row] for row in rows]
        signals.append(index.signals(query, rows))
    return WeakPairs(tuple(names), tuple(products), teacher.answers(np.concatenate(signals)))
