"""How a ranker is trained."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


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


class RankerSettings(BaseModel):
    """How to train a ranker. The defaults are ours."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: int = Field(default=1000, ge=1, description="Trees at most.")
    patience: int = Field(default=50, ge=1, description="Trees without a better validation NDCG before it stops.")
    learning_rate: float = Field(default=0.05, gt=0, le=1, description="Weight of a tree.")
    max_depth: int = Field(default=4, ge=1, le=20, description="Depth of a tree.")
    min_child_weight: float = Field(default=1.0, ge=0, description="Least sum of hessians of a leaf.")
    l2: float = Field(default=1.0, ge=0, description="L2 regularisation of the leaves.")
    row_share: float = Field(default=1.0, gt=0, le=1, description="Share of the rows that a tree sees.")
    feature_share: float = Field(default=0.8, gt=0, le=1, description="Share of the features that a tree sees.")
    bins: int = Field(default=256, ge=2, le=65_536, description="Most values that a feature is told apart by.")
    ndcg_cutoff: int = Field(default=10, ge=1, description="k of the validation NDCG@k.")
    pair_method: Literal["topk", "mean"] = Field(
        default="topk", description="topk compares the first rows with all others; mean samples pairs of all rows."
    )
    pairs_per_sample: int | None = Field(
        default=None, ge=1, description="topk: how many first rows (all by default); mean: how many pairs a row (1)."
    )
    normalise: bool = Field(default=True, description="Divide the gradients of a query by how much there is of them.")
    normalise_by_score: bool = Field(default=True, description="Divide the gradient of a pair by its score difference.")
    unbiased: bool = Field(
        default=False, description="Learn the position bias of clicks as labels (Hu et al. 2019, Unbiased LambdaMART)."
    )
    seed: int = Field(default=1, ge=0, description="Of what is sampled.")
    threads: int = Field(default=1, ge=1, description="The same number gives the same model, to the byte.")
    rows_in_memory: int = Field(
        default=5_000_000, ge=0, description="With more rows, training goes by way of the disk."
    )
    rows_of_batch: int = Field(default=500_000, ge=1, description="Rows in memory at a time then.")

    @property
    def parameters(self) -> dict[str, Any]:
        """For XGBoost."""
        found = {
            "objective": "rank:ndcg",
            "ndcg_exp_gain": False,
            "eval_metric": self.metric,
            "base_score": 0.0,  # moves all scores alike, so it can order nothing
            "tree_method": "hist",
            "device": "cpu",
            "learning_rate": self.learning_rate,
            "max_depth": self.max_depth,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": self.l2,
            "subsample": self.row_share,
            "colsample_bytree": self.feature_share,
            "max_bin": self.bins,
            "lambdarank_pair_method": self.pair_method,
            "lambdarank_normalization": self.normalise,
            "lambdarank_score_normalization": self.normalise_by_score,
            "lambdarank_unbiased": self.unbiased,
            "seed": self.seed,
            "nthread": self.threads,
        }
        if self.pairs_per_sample is not None:
            found["lambdarank_num_pair_per_sample"] = self.pairs_per_sample
        return found

    @property
    def metric(self) -> str:
        """What early stopping looks at: NDCG with linear gain; queries of equal labels count as 1 whatever happens."""
        return f"ndcg@{self.ndcg_cutoff}"

    @property
    def matrix(self) -> MatrixOptions:
        """For the matrices."""
        return MatrixOptions(self.bins, self.threads, self.rows_in_memory, self.rows_of_batch)
