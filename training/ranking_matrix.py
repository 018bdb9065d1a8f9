"""What XGBoost makes of labelled rows: a matrix in memory, or one that lies on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labelstream.schemas.errors import MissingDependency
from labelstream.training.ranking_rows import RankingRows, RankingSet
from labelstream.training.xgboost_options import MatrixOptions

try:
    import xgboost
except ModuleNotFoundError as error:
    raise MissingDependency("xgboost-cpu", "cpu") from error

__all__ = ["training_matrix", "xgboost"]

_ROWS_OF_ALL = 2**62


def training_matrix(
    rows: RankingRows, options: MatrixOptions, cache: Path, reference: xgboost.DMatrix | None = None
) -> xgboost.DMatrix:
    """Quantise rows for ``tree_method=hist``.

    Args:
        rows: Whole queries.
        options: How.
        cache: Where the pages of a matrix on disk go, a path of its own; must outlive the matrix.
        reference: The training matrix, where this is the one to validate on: the same bins.
    """
    if len(rows) <= options.rows_in_memory:
        whole = _Batches(rows, _ROWS_OF_ALL)
        return xgboost.QuantileDMatrix(whole, max_bin=options.bins, nthread=options.threads, ref=reference)
    # A query that came in two batches would be two queries to XGBoost; our batches are of whole queries.
    batches = _Batches(rows, options.rows_of_batch, cache_prefix=str(cache))
    return xgboost.ExtMemQuantileDMatrix(batches, max_bin=options.bins, nthread=options.threads, ref=reference)


class _Batches(xgboost.DataIter):  # type: ignore[misc]  # xgboost is not typed here
    """Hands over the rows, as often as XGBoost asks for them."""

    def __init__(self, rows: RankingRows, size: int, cache_prefix: str | None = None) -> None:
        super().__init__(cache_prefix)
        self._rows, self._size = rows, size
        self._names, self._types = list(rows.names), ["float"] * len(rows.names)
        self._left: Iterator[RankingSet] = iter(())

    def reset(self) -> None:
        self._left = self._rows.batches(self._size)

    def next(self, input_data: Callable[..., Any]) -> bool:
        batch = next(self._left, None)
        if batch is None:
            return False
        input_data(
            data=batch.features.values,
            label=batch.labels,
            qid=batch.query_numbers,
            feature_names=self._names,
            feature_types=self._types,
        )
        return True
