"""The settings of a ranker as XGBoost takes them."""

from __future__ import annotations

from typing import Any, NamedTuple

from labelstream.schemas.learning_settings import RankerSettings


class MatrixOptions(NamedTuple):
    """How to build XGBoost's matrix.

    Attributes:
        bins: Most values that a feature is told apart by.
        threads: For the building.
        rows_in_memory: With more rows than this, the matrix lies on disk.
        rows_of_batch: About how many rows are in memory at a time then.
    """

    bins: int
    threads: int
    rows_in_memory: int
    rows_of_batch: int


def xgboost_parameters(settings: RankerSettings) -> dict[str, Any]:
    """What ``xgboost.train`` is told."""
    found = {
        "objective": "rank:ndcg",
        "ndcg_exp_gain": False,
        "eval_metric": validation_metric(settings),
        "base_score": 0.0,  # moves all scores alike, so it can order nothing
        "tree_method": "hist",
        "device": "cpu",
        "learning_rate": settings.learning_rate,
        "max_depth": settings.max_depth,
        "min_child_weight": settings.min_child_weight,
        "reg_lambda": settings.l2,
        "subsample": settings.row_share,
        "colsample_bytree": settings.feature_share,
        "max_bin": settings.bins,
        "lambdarank_pair_method": settings.pair_method,
        "lambdarank_normalization": settings.normalise,
        "lambdarank_score_normalization": settings.normalise_by_score,
        "seed": settings.seed,
        "nthread": settings.threads,
    }
    if settings.pairs_per_sample is not None:
        found["lambdarank_num_pair_per_sample"] = settings.pairs_per_sample
    return found


def validation_metric(settings: RankerSettings) -> str:
    """What early stopping looks at: NDCG with linear gain; queries of equal labels count as 1 whatever happens."""
    return f"ndcg@{settings.ndcg_cutoff}"


def matrix_options(settings: RankerSettings) -> MatrixOptions:
    """For the matrices."""
    return MatrixOptions(settings.bins, settings.threads, settings.rows_in_memory, settings.rows_of_batch)
