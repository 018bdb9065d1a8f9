from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.training.splits import query_folds, query_holdouts

QUERIES = st.lists(
    st.sampled_from(["tv", " TV", "sofa", "Sofa", "lamp", "bed", "ｂed", "rug"]), min_size=1, max_size=40
)
SEEDS = st.integers(0, 2**32 - 1)


def normalised(queries: list[str], indices: np.ndarray) -> set[str]:
    """The different queries at these positions."""
    return {normalise_query(queries[i]) for i in indices}


@given(QUERIES, st.integers(2, 6), SEEDS)
def test_folds_cover_every_pair_once_and_split_no_query(queries: list[str], folds: int, seed: int):
    known = {normalise_query(query) for query in queries}
    if len(known) < folds:
        with pytest.raises(SettingsError, match=f"{len(known)} queries cannot be split into {folds} parts"):
            query_folds(queries, folds, seed=seed)
        return
    splits = list(query_folds(queries, folds, seed=seed))
    assert sorted(np.concatenate([test for _, test in splits]).tolist()) == list(range(len(queries)))
    for train, test in splits:
        assert sorted([*train, *test]) == list(range(len(queries)))
        assert not normalised(queries, train) & normalised(queries, test)
        assert train.size
        assert test.size
    sizes = [len(normalised(queries, test)) for _, test in splits]
    assert max(sizes) - min(sizes) <= 1


@given(QUERIES, st.floats(0.01, 0.99), SEEDS)
def test_holdouts_split_no_query(queries: list[str], share: float, seed: int):
    known = {normalise_query(query) for query in queries}
    try:
        splits = list(query_holdouts(queries, share=share, seed=seed, repeats=3))
    except SettingsError:
        assert np.ceil(len(known) * share) >= len(known)
        return
    assert len(splits) == 3
    for train, test in splits:
        assert sorted([*train, *test]) == list(range(len(queries)))
        assert not normalised(queries, train) & normalised(queries, test)
        assert len(normalised(queries, test)) == np.ceil(len(known) * share)


def test_the_seed_decides():
    queries = [f"query {number % 50}" for number in range(200)]

    def tests(seed: int) -> list[list[int]]:
        folds = query_folds(queries, 5, seed=seed)
        draws = query_holdouts(queries, share=0.2, seed=seed, repeats=2)
        return [test.tolist() for _, test in [*folds, *draws]]

    assert tests(1) == tests(1)
    assert tests(1) != tests(2)
    assert tests(1)[-1] != tests(1)[-2]


def test_what_leaves_nothing_to_train_on_is_refused_before_anything_is_split():
    with pytest.raises(SettingsError, match="folds: 1 leaves nothing"):
        query_folds(["tv", "sofa"], 1, seed=0)
    with pytest.raises(SettingsError, match=r"share: 1\.5 must lie between"):
        query_holdouts(["tv", "sofa"], share=1.5, seed=0)
    with pytest.raises(SettingsError, match=r"share: 0\.9 of 2 queries leaves none"):
        query_holdouts(["tv", "sofa"], share=0.9, seed=0)
    with pytest.raises(SettingsError, match="1 queries cannot be split"):
        query_holdouts(["tv", "TV"], share=0.5, seed=0)
