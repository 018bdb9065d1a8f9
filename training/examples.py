"""From pairs to what a model is tuned on: token ids, wanted distributions, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from labelstream.schemas.prompt_encoder import EncodedPrompt
from labelstream.schemas.scale import Floats
from labelstream.training.judge_models import TrainableJudge
from labelstream.training.judgments import MISSING, JudgedPairs
from labelstream.training.weak_pairs import WeakPairs


@dataclass(frozen=True)
class Examples:
    """Encoded pairs and how they are to be judged.

    Attributes:
        token_ids: Whole prompts; shape (pairs,).
        targets: Wanted distribution of each pair; shape (pairs, levels), rows sum to 1.
        weights: How much a pair counts; shape (pairs,).
    """

    token_ids: Sequence[list[int]]
    targets: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.token_ids[index], "target": self.targets[index], "weight": self.weights[index]}

    def joined(self, others: Examples, *, times: int = 1) -> Examples:
        """These so many times, then the others once."""
        return Examples(
            [*self.token_ids] * times + [*others.token_ids],
            np.concatenate([*[self.targets] * times, others.targets]),
            np.concatenate([*[self.weights] * times, others.weights]),
        )


class JudgedExamples(NamedTuple):
    """Examples of judged pairs, without those that cannot be asked.

    Attributes:
        examples: Shape (pairs,).
        judged: The same pairs.
        left_out: How many pairs have a query that leaves no room for a product.
    """

    examples: Examples
    judged: JudgedPairs
    left_out: int


def judged_examples(
    trainable: TrainableJudge, judged: JudgedPairs, levels: int, *, rater_share: float, balance: float
) -> JudgedExamples:
    """Encode judged pairs as serving does.

    Args:
        trainable: Gives the encoding.
        judged: The pairs.
        levels: Number of levels.
        rater_share: See :func:`wanted_distributions`.
        balance: See :func:`class_weights`.
    """
    encoded = trainable.encode(*judged.texts)
    asked = np.array([i for i, prompt in enumerate(encoded) if isinstance(prompt, EncodedPrompt)], dtype=np.int64)
    kept = judged.select(asked)
    targets = wanted_distributions(kept, levels, rater_share)
    examples = Examples(_token_ids(encoded), targets, class_weights(targets, balance))
    return JudgedExamples(examples, kept, len(judged) - len(kept))


def weak_examples(trainable: TrainableJudge, weak: WeakPairs) -> Examples:
    """Encode a teacher's pairs as serving does; all count the same."""
    encoded = trainable.encode(*weak.texts)
    asked = [isinstance(prompt, EncodedPrompt) for prompt in encoded]
    targets = weak.distributions[asked]
    return Examples(_token_ids(encoded), targets, np.ones(len(targets)))


def _token_ids(encoded: Sequence[Any]) -> list[list[int]]:
    return [prompt.token_ids for prompt in encoded if isinstance(prompt, EncodedPrompt)]


def wanted_distributions(judged: JudgedPairs, levels: int, rater_share: float) -> Floats:
    """What a judge should answer: the adjudicated level, softened by what the single raters said.

    A pair that people disagree on is one that a judge should not be sure of (soft labels: Uma et al. 2021,
    "Learning from Disagreement", JAIR 72).

    Args:
        judged: The pairs.
        levels: Number of levels.
        rater_share: Share of the raters' votes in the answer; a pair without raters keeps its level.

    Returns:
        Shape (pairs, levels); rows sum to 1.
    """
    adjudicated = np.eye(levels)[judged.levels]
    if judged.rater_levels is None:
        return adjudicated
    votes = np.stack([(judged.rater_levels == level).sum(axis=1) for level in range(levels)], axis=1).astype(float)
    known = (judged.rater_levels != MISSING).any(axis=1)
    votes[known] /= votes[known].sum(axis=1, keepdims=True)
    share = np.where(known, rater_share, 0.0)[:, None]
    return np.asarray((1.0 - share) * adjudicated + share * votes)


def class_weights(targets: Floats, balance: float) -> Floats:
    """A weight for every pair, so that rare levels are not drowned: (1 / frequency)^balance, mean 1.

    Args:
        targets: Wanted distributions; shape (pairs, levels).
        balance: 0 for none, 1 for inverse frequency ("balanced" in scikit-learn).

    Returns:
        Shape (pairs,). A level that never occurs has no part in it.
    """
    if not len(targets):
        return np.empty(0)
    frequency = targets.mean(axis=0)
    by_level = np.where(frequency > 0, np.maximum(frequency, 1e-12) ** -balance, 0.0)
    weights = targets @ by_level
    return np.asarray(weights / weights.mean())
