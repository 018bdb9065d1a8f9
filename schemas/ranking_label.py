"""The label that the ranker is trained on: content relevance as a filter, engagement within its bands.

Content is the expected score of the labeller in [0, 1], polarized by σ(x; α, β) or kept as it is. Engagement is in
[0, 1], corrected for position and smoothed (see ``training.engagement``). Their combination is

    label = σ(x; α, β) · ((1 − w) + w · e)

so that content decides how much a product can be worth at all, and engagement moves it within a band: a product whose
polarized content is below (1 − w) times that of another never gets the higher label, whatever shoppers did.

Sources: arXiv 2409.17460 (polarized content is the quality filter, engagement orders products of similar content
relevance) and arXiv 2604.07930 (engagement only as a preference among relevant items). Neither gives a closed formula
here: the product of the two parts and the default weight are ours.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from labelstream.schemas.polarization import PRESETS, Polarization
from labelstream.schemas.scale import Floats

RankingLabelPreset = Literal["engagement_only", "content_only", "combined"]

_FORMULAS: dict[RankingLabelPreset, str] = {
    "engagement_only": "e",
    "content_only": "s",
    "combined": "s · ((1 − w) + w · e)",
}


class RankingLabel(BaseModel):
    """How content relevance and engagement become one label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: RankingLabelPreset = Field(
        default="combined",
        description="engagement_only (what shoppers did), content_only (the polarized score) or combined.",
    )
    polarization: Polarization = Field(
        default=Polarization(), description="The sigmoid over the content score; engagement_only does not use it."
    )
    engagement_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="w: share of the label that engagement decides; only combined uses it. 0 is content_only.",
    )

    def label(self, content: Floats, engagement: Floats) -> Floats:
        """The label of each pair.

        Args:
            content: Expected scores in [0, 1], any shape.
            engagement: Engagement in [0, 1], a shape that broadcasts with that of ``content``.

        Returns:
            In [0, 1], never decreasing in either argument and, but for engagement_only, never above the polarized
            content.

        Raises:
            ValueError: A value that is outside [0, 1] or no number.
        """
        x, e = np.broadcast_arrays(_unit_interval("content", content), _unit_interval("engagement", engagement))
        if self.preset == "engagement_only":
            return e.copy()
        if self.preset == "content_only":
            return self.polarization(x).copy()
        # Equal to the formula above, and exactly 1 for e = 1, so that rounding lifts no label over its content.
        return np.asarray(self.polarization(x) * (1.0 - self.engagement_weight * (1.0 - e)))

    @property
    def description(self) -> dict[str, Any]:
        """What a model card or a report says of the label: only what the preset uses, JSON-able."""
        facts: dict[str, Any] = {"preset": self.preset, "formula": _FORMULAS[self.preset]}
        if self.preset != "engagement_only":
            alpha, beta = self.polarization.parameters or (None, None)
            sigmoid = "x" if alpha is None else "1 / (1 + exp(−α (x − β)))"
            facts |= {"s": sigmoid, "polarization": self.polarization.preset, "alpha": alpha, "beta": beta}
        if self.preset == "combined":
            facts["engagement_weight"] = self.engagement_weight
        return facts


def _unit_interval(name: str, values: Floats) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise ValueError(f"{name} must lie in [0, 1] everywhere")
    return numbers


def _named_labels() -> dict[str, RankingLabel]:
    raw = Polarization(preset="none")
    polarizations = {"raw": raw} | {name: Polarization.model_validate({"preset": name}) for name in PRESETS}
    labels = {"engagement_only": RankingLabel(preset="engagement_only", polarization=raw)}
    for name, polarization in polarizations.items():
        labels[f"content_{name}"] = RankingLabel(preset="content_only", polarization=polarization)
    for name, polarization in polarizations.items():
        labels[f"combined_{name}"] = RankingLabel(polarization=polarization)
    return labels


RANKING_LABELS: dict[str, RankingLabel] = _named_labels()
"""The named labels: engagement_only, and content_… and combined_… with raw and each preset of the polarization."""
