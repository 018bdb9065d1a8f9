"""Splits of judged pairs by query: a query is never on both sides.

Products of one query are judged against one need, so a model that has seen some of them has seen the test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit

from labelstream.schemas.errors import SettingsError
from labelstream.training.judgments import Integers, number_queries

Split = tuple[Integers, Integers]


def query_folds(queries: Sequence[str], folds: int, *, seed: int) -> Iterator[Split]:
    """Cut the queries into folds of nearly the same number of queries; each is the test once.

    Args:
        queries: Of each pair; two spellings that normalise to the same are one query.
        folds: How many, at least 2.
        seed: The same seed and order of pairs give the same folds.

    Yields:
        Indices of the pairs to train on and to test on, both ascending.

    Raises:
        SettingsError: There are fewer queries than folds.
    """
    if folds < 2:  # noqa: PLR2004 - one fold has nothing to train on
        raise SettingsError(f"folds: {folds} leaves nothing to train on; set 2 or more")
    numbers = _numbers_of(queries, folds)
    return _splits(GroupKFold(folds, shuffle=True, random_state=seed), numbers)


def query_holdouts(queries: Sequence[str], *, share: float, seed: int, repeats: int = 1) -> Iterator[Split]:
    """Draw a share of the queries for the test, several times, each time from all queries.

    Args:
        queries: Of each pair; two spellings that normalise to the same are one query.
        share: Of the queries, rounded up, that goes to the test, between 0 and 1.
        seed: The same seed and order of pairs give the same draws.
        repeats: How many draws.

    Yields:
        Indices of the pairs to train on and to test on, both ascending.

    Raises:
        SettingsError: The share is not between 0 and 1, or leaves one of the sides without a query.
    """
    if not 0 < share < 1:
        raise SettingsError(f"share: {share:g} must lie between 0 and 1")
    numbers = _numbers_of(queries, 2)
    known = int(numbers.max()) + 1
    if np.ceil(known * share) >= known:
        raise SettingsError(f"share: {share:g} of {known} queries leaves none to train on; set a smaller share")
    return _splits(GroupShuffleSplit(repeats, test_size=share, random_state=seed), numbers)


def _numbers_of(queries: Sequence[str], needed: int) -> Integers:
    numbers = number_queries(queries)
    known = len(np.unique(numbers))
    if known < needed:
        raise SettingsError(f"{known} queries cannot be split into {needed} parts; give more queries or fewer folds")
    return numbers


def _splits(splitter: GroupKFold | GroupShuffleSplit, numbers: Integers) -> Iterator[Split]:
    for train, test in splitter.split(numbers, groups=numbers):
        yield np.asarray(train, np.int64), np.asarray(test, np.int64)
