from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rankings import QUICK, some_features, some_rows

from labelstream.schemas.errors import ModelUnavailable, SettingsError
from labelstream.training import ranker_distributed as module
from labelstream.training.ranker_distributed import QueryShare, train_distributed
from labelstream.training.ranker_fit import fit_ranker
from labelstream.training.ranking_rows import RankingFile, RankingSet, write_ranking_file


@pytest.fixture
def files(tmp_path: Path) -> tuple[RankingFile, RankingFile]:
    training, held_out = (
        write_ranking_file(tmp_path / f"{seed}.parquet", [some_rows(seed=seed)], rows_per_group=70) for seed in (1, 2)
    )
    return training, held_out


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 10))
def test_workers_share_the_queries_and_split_none(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], workers: int, size: int
):
    rows = RankingSet(
        some_features(sum(sizes)), np.repeat(np.arange(len(sizes)), sizes), np.zeros(sum(sizes), np.float32)
    )
    file = write_ranking_file(tmp_path_factory.mktemp("rows") / "rows.parquet", [rows], rows_per_group=size)
    shares = [QueryShare(file, worker, workers) for worker in range(workers)]
    held = [
        np.concatenate([np.zeros(0, int), *(batch.query_numbers for batch in share.batches(size))]) for share in shares
    ]
    assert [len(numbers) for numbers in held] == [len(share) for share in shares]
    assert sorted(np.concatenate(held).tolist()) == rows.query_numbers.tolist()
    queries = [set(numbers.tolist()) for numbers in held]
    assert len(set().union(*queries)) == sum(map(len, queries))


def test_fewer_queries_than_workers_are_refused(files: tuple[RankingFile, RankingFile], tmp_path: Path):
    with pytest.raises(SettingsError, match=r"1\.parquet: 20 queries for 21 workers; take fewer workers"):
        train_distributed(*files, QUICK.model_copy(update={"workers": 21}), storage=tmp_path)


def test_several_workers_need_a_storage():
    rows = some_rows()
    queries = [f"query {number}" for number in rows.query_numbers]
    with pytest.raises(SettingsError, match="2 workers of a ranker need a storage"):
        fit_ranker(rows.features, rows.labels, queries, QUICK.model_copy(update={"workers": 2}))


def test_a_worker_that_does_not_see_the_rows_says_so(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"rows\.parquet is not there on .* LABELSTREAM_RAY_STORAGE") as raised:
        module._file(tmp_path / "rows.parquet")
    lost = RuntimeError("connection reset\n  by the worker that ended")
    assert module._of_workers({0: lost, 1: raised.value}) is raised.value
    error = module._of_workers({0: lost})
    assert isinstance(error, ModelUnavailable)
    assert str(error).endswith("failed 3 times, at last 0: connection reset by the worker that ended")
