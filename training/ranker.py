"""The ranker: gradient-boosted trees that learn to order the products of a query (LambdaMART: XGBoost's rank:ndcg).

What XGBoost 3.2 does with labels, and what is done about it here (``tests/test_ranker.py`` pins it down):

- Its default gain, 2^label − 1, is for whole numbers up to 31 and refuses fractions. Our labels are worth in [0, 1], so
  the gain is the label itself: ``ndcg_exp_gain=false``, for the objective and for the metric of early stopping.
- With that gain it takes negative labels in silence; ``RankingSet`` refuses them.
- ``lambdarank_unbiased`` is left off: it takes the place of a row within its query for the one position where shoppers
  saw it, and labels for clicks. Our pairs were seen at many positions, our labels are no clicks, and the engagement in
  them is free of position already (``training/engagement.py``).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from labelstream.schemas.errors import ModelUnusable, SettingsError
from labelstream.schemas.learning_settings import RankerSettings
from labelstream.training.durable_files import whole_file
from labelstream.training.features import FeatureTable
from labelstream.training.ranking_matrix import training_matrix, xgboost
from labelstream.training.ranking_rows import RankingRows
from labelstream.training.xgboost_options import matrix_options, validation_metric, xgboost_parameters

MODEL, CARD = "model.json", "ranker.json"

Tell = Callable[[int, float | None], None]  # how many trees there are, and their NDCG on the validation queries


class RankerCard(BaseModel):
    """What stands beside the trees.

    Attributes:
        features: Names of the columns, in order.
        label: What it was taught to rank high, in words.
        settings: How it was trained.
        rounds: Trees that were kept.
        validation_ndcg: NDCG on the validation queries; None where there were none.
        model_sha256: Of the trees' file: a card and trees that do not belong together are never loaded.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    features: tuple[str, ...]
    label: str
    settings: RankerSettings
    rounds: int
    validation_ndcg: float | None
    model_sha256: str

    @field_validator("settings", mode="before")
    @classmethod
    def _known(cls, settings: object) -> object:
        """Without those that we no longer have: what a ranker was trained with must not keep it from ranking."""
        if not isinstance(settings, dict):
            return settings
        return {name: value for name, value in settings.items() if name in RankerSettings.model_fields}


class Importance(NamedTuple):
    """How much a feature matters.

    Attributes:
        total_gain: Loss that all splits on it took away.
        mean_absolute_shap: By how much it moves the score of a pair, on average (SHAP: Lundberg et al. 2020).
    """

    name: str
    total_gain: float
    mean_absolute_shap: float


@dataclass(frozen=True, eq=False)
class Ranker:
    """A trained ranker."""

    booster: xgboost.Booster
    card: RankerCard

    @classmethod
    def train(
        cls,
        training: RankingRows,
        validation: RankingRows | None = None,
        settings: RankerSettings | None = None,
        *,
        label: str = "",
        tell: Tell | None = None,
    ) -> Self:
        """Train on whole queries; the same rows and settings give the same bytes.

        Args:
            training: Rows to learn from.
            validation: Rows of other queries, to stop early by; None trains all rounds.
            settings: How.
            label: What the labels mean, for the card.
            tell: Called after each tree.

        Raises:
            SettingsError: The rows cannot teach or measure an order, or do not fit each other or the settings.
        """
        settings = settings or RankerSettings()
        check_rows(training, validation, settings)
        with tempfile.TemporaryDirectory(prefix="labelstream-ranker-", ignore_cleanup_errors=True) as folder:
            booster = boost(training, validation, settings, Path(folder), tell)
        return cls.of(booster, settings, training.names, label)

    @classmethod
    def of(cls, booster: xgboost.Booster, settings: RankerSettings, names: tuple[str, ...], label: str) -> Self:
        """A ranker of trees that are trained already."""
        score = booster.attr("best_score")
        card = RankerCard(
            features=names,
            label=label,
            settings=settings,
            rounds=booster.num_boosted_rounds(),
            validation_ndcg=None if score is None else float(score),
            model_sha256=hashlib.sha256(_trees(booster)).hexdigest(),
        )
        return cls(booster, card)

    def score(self, features: FeatureTable) -> NDArray[np.float32]:
        """Scores that order the products of one query; between queries they mean nothing.

        Args:
            features: Exactly those that it was trained on, in the same order.

        Returns:
            Shape (pairs,), higher is better.

        Raises:
            SettingsError: The features are others.
        """
        self._check(features)
        return np.asarray(self.booster.inplace_predict(features.values), np.float32)

    def importance(self, features: FeatureTable) -> list[Importance]:
        """How much each feature matters, most first.

        Args:
            features: Of the pairs to average over.
        """
        self._check(features)
        gains = self.booster.get_score(importance_type="total_gain")
        matrix = xgboost.DMatrix(
            features.values, feature_names=list(features.names), nthread=self.card.settings.threads
        )
        shap = np.abs(self.booster.predict(matrix, pred_contribs=True)[:, :-1]).mean(axis=0)  # the last is the bias
        rows = zip(features.names, shap.tolist(), strict=True)
        found = [Importance(name, float(np.sum(gains.get(name, 0.0))), value) for name, value in rows]
        return sorted(found, key=lambda one: (-one.mean_absolute_shap, -one.total_gain, one.name))

    def _check(self, features: FeatureTable) -> None:
        wanted, given = self.card.features, features.names
        if wanted == given:
            return
        missing, strange = (sorted(set(one) - set(other)) for one, other in ((wanted, given), (given, wanted)))
        what = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(strange)}"] * bool(strange)
        raise SettingsError(
            f"the features are not those of the ranker ({'; '.join(what) or 'another order'}); "
            f"give {', '.join(wanted)}, in this order"
        )

    def save(self, folder: Path) -> None:
        """Write trees and card into a folder, which is made where it is missing; the card comes last.

        Raises:
            SettingsError: The folder may not be written.
            TransientError: The disk is full, or does not answer.
        """
        with whole_file(folder / MODEL) as file:
            file.write(_trees(self.booster))
        with whole_file(folder / CARD) as file:
            file.write(self.card.model_dump_json(indent=2).encode() + b"\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` has written.

        Raises:
            ModelUnusable: Something is missing, damaged, or half written.
        """
        try:
            card = RankerCard.model_validate_json((folder / CARD).read_bytes())
            trees = (folder / MODEL).read_bytes()
        except (OSError, ValidationError) as error:
            raise ModelUnusable(f"{folder}: no ranker that can be read ({error}); train it again") from error
        if hashlib.sha256(trees).hexdigest() != card.model_sha256:
            raise ModelUnusable(f"{folder / MODEL}: not the trees that {CARD} tells of; train it again")
        booster = xgboost.Booster({"nthread": card.settings.threads})
        try:
            booster.load_model(bytearray(trees))
        except xgboost.core.XGBoostError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelUnusable(f"{folder / MODEL}: not for this XGBoost ({reason}); train it again") from error
        return cls(booster, card)


def check_rows(training: RankingRows, validation: RankingRows | None, settings: RankerSettings) -> None:
    """Refuse rows that cannot be trained on.

    Raises:
        SettingsError: Which, and why.
    """
    for what, rows in (("training", training), ("validation", validation)):
        if rows is not None and not any(batch.contested() for batch in rows.batches(settings.rows_of_batch)):
            raise SettingsError(
                f"{what}: no query has two products with different labels, so there is no order in them; "
                "give more queries or finer labels"
            )
    if validation is not None and validation.names != training.names:
        raise SettingsError(f"validation has the features {list(validation.names)}, training {list(training.names)}")


def boost(
    training: RankingRows,
    validation: RankingRows | None,
    settings: RankerSettings,
    cache: Path,
    tell: Tell | None = None,
) -> xgboost.Booster:
    """Train the trees; within a communicator of XGBoost's, on this worker's share of the rows.

    Args:
        training: Checked by ``check_rows``.
        validation: Likewise.
        settings: How.
        cache: An empty folder for matrices that lie on disk.
        tell: Called after each tree.
    """
    telling = [] if tell is None else [_Telling(tell)]
    matrix = training_matrix(training, matrix_options(settings), cache / "training")
    if validation is None:
        return xgboost.train(xgboost_parameters(settings), matrix, settings.rounds, callbacks=telling)
    held_out = training_matrix(validation, matrix_options(settings), cache / "validation", matrix)
    stop = xgboost.callback.EarlyStopping(
        rounds=settings.patience,
        metric_name=validation_metric(settings),
        data_name="validation",
        maximize=True,
        save_best=True,
    )
    return xgboost.train(
        xgboost_parameters(settings),
        matrix,
        settings.rounds,
        evals=[(held_out, "validation")],
        callbacks=[*telling, stop],
        verbose_eval=False,
    )


class _Telling(xgboost.callback.TrainingCallback):  # type: ignore[misc]  # xgboost is not typed here
    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def after_iteration(self, model: object, epoch: int, evals_log: dict[str, dict[str, Any]]) -> bool:  # noqa: ARG002
        scores = [values[-1] for metrics in evals_log.values() for values in metrics.values()]
        self._tell(epoch + 1, float(scores[0]) if scores else None)
        return False


def _trees(booster: xgboost.Booster) -> bytes:
    return bytes(booster.save_raw("json"))
