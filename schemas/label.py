"""The label record: what the relevance-labels topic carries."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class LabelRecord(BaseModel):
    """One judgement of one pair, whole: never only the winning level."""

    model_config = ConfigDict(frozen=True)

    label_key: str = Field(description="Hash of query, product text, model, prompt and scale.")
    query: str = Field(description="Normalised query.")
    product_id: str
    product_hash: str = Field(description="Content hash of the product text that was judged.")
    probabilities: tuple[float, ...] = Field(description="P(level), worst level first, sums to 1.")
    level: str = Field(description="The most probable level.")
    expected_score: float = Field(ge=0, le=1, description="Mean worth of the distribution.")
    polarized_score: float = Field(ge=0, le=1, description="Sigmoid of the expected score.")
    polarization_alpha: float | None = None
    polarization_beta: float | None = None
    temperature: float = 1.0
    shortened: bool = Field(default=False, description="The product text was cut to fit the prompt.")
    cross_encoder_score: float | None = None
    cross_encoder_version: str | None = None
    model_version: str
    prompt_version: str
    scale_version: str
    judged_at: datetime
    request_id: str | None = Field(default=None, description="Of the HTTP request that asked; null for the stream.")
