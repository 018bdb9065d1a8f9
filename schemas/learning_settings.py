"""Settings of the learning loop: the registry, retraining and its gate, what engagement is worth, the ranker."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field, field_validator

from labelstream.schemas.drift import MOVED
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.ranking_label import RANKING_LABELS, RankingLabel
from labelstream.schemas.scale import Floats
from labelstream.schemas.section import Section


class RegistrySettings(Section):
    """Versions of trained models, and who is champion."""

    folder: Path = Field(
        default=Path(".labelstream/registry"), description="Folder of the registry, on a shared file system if wanted."
    )
    commit: str = Field(
        default="",
        description="Git commit that the code was built from, for the manifests; empty to ask git in a checkout.",
    )


class RetrainSettings(Section):
    """How a ranker is trained again."""

    window_days: int = Field(default=7, ge=1, description="Newest days: labels and measures are from these.")
    held_out: float = Field(default=0.25, gt=0, lt=1, description="Share of the queries that measure.")
    keep: int = Field(
        default=5,
        ge=1,
        description="Newest versions to keep, refused ones too, beside those that a rollback needs. With fewer than 3 "
        "the alert LabelstreamGateRefusals never comes.",
    )
    label: str = Field(
        default="combined_balanced",
        description="What the ranker is taught: a label of schemas/ranking_label.py, by name.",
    )

    @field_validator("label")
    @classmethod
    def _label_is_known(cls, label: str) -> str:
        if label not in RANKING_LABELS:
            raise ValueError(f"{label}: choose one of {', '.join(RANKING_LABELS)}")
        return label

    @property
    def ranking_label(self) -> RankingLabel:
        """What ``label`` names."""
        return RANKING_LABELS[self.label]


class GateSettings(Section):
    """What a challenger must show before it replaces the champion."""

    model_config = ConfigDict(allow_inf_nan=False)

    content_margin: float = Field(
        default=0.01, ge=0, le=1, description="How much mean content NDCG@10 a challenger may lose at most."
    )
    engagement_margin: float = Field(
        default=0.01, ge=0, le=1, description="How much mean engagement ATC a challenger may lose at most."
    )
    content_minimum: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Mean content NDCG@10 that every challenger must reach; set it above that of a random order.",
    )
    engagement_minimum: float = Field(
        default=0.0, ge=0, le=1, description="Mean engagement ATC that every challenger must reach."
    )
    engagement_cutoff: int = Field(
        default=10,
        ge=1,
        description="k of engagement ATC@k: the share of a query's adds to cart in its first k places. Only queries "
        "with more than k labelled products count.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="One-sided confidence that no more than the margin is lost."
    )
    resamples: int = Field(default=2000, ge=100, le=1_000_000, description="Bootstrap draws of the queries.")
    seed: int = Field(default=1, ge=0, description="Of the bootstrap draws.")
    minimum_queries: int = Field(default=30, ge=2, description="Held-out queries on which each metric is defined.")
    minimum_pairs: int = Field(default=300, ge=1, description="Labelled pairs that a challenger is trained on.")
    maximum_drift: float = Field(
        default=MOVED,
        gt=0,
        description="PSI of the labels' mix against the champion's; 0.25 is the usual border of having moved.",
    )


class EngagementSettings(Section):
    """What actions are worth and how far positions are told apart. The defaults are ours."""

    model_config = ConfigDict(allow_inf_nan=False)

    click_weight: float = Field(default=1.0, ge=0, description="Worth of a click.")
    add_to_cart_weight: float = Field(
        default=3.0, ge=0, description="Worth of an add to cart, beside that of its click."
    )
    purchase_weight: float = Field(
        default=5.0, ge=0, description="Worth of a purchase, beside that of its click and cart."
    )
    unseen_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="u: what a pair is worth before anybody saw it, as a share of the mean pair. 0 makes engagement "
        "something to be earned. The default was chosen on simulations of 5,000 to 100,000 sessions.",
    )
    deepest_rank: int = Field(default=50, ge=1, description="Positions from this rank on share one θ.")

    @property
    def weights(self) -> Floats:
        """Share of each action in the worth of all three: click, add to cart, purchase; shape (3,).

        Raises:
            SettingsError: No action is worth anything.
        """
        weights = np.array([self.click_weight, self.add_to_cart_weight, self.purchase_weight])
        if not weights.any():
            raise SettingsError("click_weight, add_to_cart_weight and purchase_weight are all 0; give one a weight")
        return np.asarray(weights / weights.sum())


class RankerSettings(Section):
    """How to train a ranker. The defaults are ours."""

    model_config = ConfigDict(allow_inf_nan=False)

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
        default=None,
        ge=1,
        description="topk: how many first rows; mean: how many pairs a row. Left out, XGBoost's own: 32 and 1.",
    )
    normalise: bool = Field(default=True, description="Divide the gradients of a query by how much there is of them.")
    normalise_by_score: bool = Field(default=True, description="Divide the gradient of a pair by its score difference.")
    seed: int = Field(default=1, ge=0, description="Of what is sampled: same rows, same settings, same ranker.")
    threads: int = Field(default=1, ge=1, description="The same number gives the same model, to the byte.")
    workers: int = Field(
        default=1,
        ge=1,
        description="Processes that train together, with so many threads each: 1 is the command's own, more run on "
        "Ray. The same number gives the same model, to the byte.",
    )
    rows_in_memory: int = Field(default=5_000_000, ge=0, description="With more rows, XGBoost's matrix lies on disk.")
    rows_of_batch: int = Field(default=500_000, ge=1, description="Rows that it is made of at a time then.")
