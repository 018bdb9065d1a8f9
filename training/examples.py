"""From pairs to what a model is tuned on: token ids, wanted distributions, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from labelstream.schemas.prompt_encoder import EncodedPrompt
from labelstream.schemas.scale import Floats
from labelstream.training.judge_models import TrainableJudge
from labelstream.training.judgments import JudgedPairs
from labelstream.training.wanted_answers import class_weights, wanted_distributions
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
        rater_share: See :func:`labelstream.training.wanted_answers.wanted_distributions`.
        balance: See :func:`labelstream.training.wanted_answers.class_weights`.
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
