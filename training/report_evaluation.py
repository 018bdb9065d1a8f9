"""What the report takes from a folder of ``labelstream evaluate``."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from pydantic import Field, ValidationError, model_validator

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.scale import Floats, LabelScale
from labelstream.training.agreement import ADJUDICATED
from labelstream.training.predictions import METRICS_FILE, PREDICTIONS
from labelstream.training.report_inputs import Count, Measure, Part, Share, Source, read_bytes, read_part

MISTAKES_SHOWN = 12
_PREDICTIONS_FILE = f"{PREDICTIONS}.parquet"
_COLUMNS = ("query", "product_id", "level", "predicted_level", "expected_score")
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError)

Confusion = list[list[Count]]


class LevelAgreement(Part):
    """Levels of one judge against those of a reference; rows of the confusion are the reference."""

    kappa: Measure
    quadratic_kappa: Measure
    weighted_f1: Measure
    accuracy: Measure
    optimistic_bias: Measure
    confusion: Confusion


class RaterAgreement(LevelAgreement):
    """A human rater against another one, or against the adjudicated level."""

    reference: str
    rater: str
    pairs: Count


class LevelScores(Part):
    """How well one level is found."""

    precision: Measure
    recall: Measure
    f1: Measure
    support: Count


class Bin(Part):
    """Pairs of similar confidence; null where there are none."""

    low: Share
    high: Share
    pairs: Count
    confidence: Share | None
    accuracy: Share | None


class LabelMeasures(LevelAgreement):
    """Everything about a labeller."""

    expected_calibration_error: Measure
    negative_log_likelihood: Measure
    brier: Measure
    per_class: dict[str, LevelScores]
    reliability: list[Bin]


class RankingMeasure(Measure):
    """A mean over queries."""

    queries: Count
    queries_left_out: Count


class JudgedData(Part):
    """What was judged."""

    pairs: Annotated[int, Field(ge=1)]
    queries: Annotated[int, Field(ge=1)]
    pairs_by_level: dict[str, Count]


class Metrics(Part):
    """``metrics.json``.

    Attributes:
        data: What was judged.
        labels: None of a pure ranker.
        ranking: By the name of the measure.
        humans: Empty without single raters.
        humans_ranking: By rater, then by the name of the measure.
        method: How it was measured.
        predictions_sha256: Of the files beside it.
        simulated: Whether its add-to-carts are; None where it is not said.
    """

    data: JudgedData
    labels: LabelMeasures | None
    ranking: dict[str, RankingMeasure]
    humans: list[RaterAgreement]
    humans_ranking: dict[str, dict[str, RankingMeasure]]
    method: dict[str, Any]
    predictions_sha256: dict[str, str]
    simulated: bool | None = None

    @model_validator(mode="after")
    def _fits_one_scale(self) -> Self:
        try:
            levels = len(LabelScale(levels=self.levels).levels)
        except ValidationError:
            raise ValueError("data.pairs_by_level: its keys are no label scale, worst level first") from None
        if self.labels is not None and set(self.labels.per_class) != set(self.levels):
            raise ValueError("labels.per_class: other levels than in data.pairs_by_level")
        tables = [*self.humans] if self.labels is None else [self.labels, *self.humans]
        if any(len(one.confusion) != levels or {len(row) for row in one.confusion} != {levels} for one in tables):
            raise ValueError(f"a confusion is not of {levels} by {levels} levels")
        return self

    @property
    def levels(self) -> tuple[str, ...]:
        """Worst first."""
        return tuple(self.data.pairs_by_level)

    @property
    def has_atc(self) -> bool:
        """Whether engagement was measured."""
        return any(name.startswith("atc") for name in self.ranking)

    @property
    def among_raters(self) -> list[RaterAgreement]:
        """The raters among themselves, without the adjudicated level that was made of what they said."""
        return [one for one in self.humans if one.reference != ADJUDICATED]


class Mistake(NamedTuple):
    """A pair on which the model and the people differ.

    Attributes:
        query: As it was typed.
        product_id: The product.
        said: The adjudicated level.
        predicted: The model's level.
        expected_score: Of the model, in [0, 1].
    """

    query: str
    product_id: str
    said: str
    predicted: str
    expected_score: float


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """One evaluation.

    Attributes:
        name: As the report calls it.
        source: The file of the metrics.
        metrics: What was measured.
        expected_scores: Of the labeller, shape (pairs,); None of a pure ranker.
        mistakes: Those where expected score and adjudicated level are furthest apart, the worst first.
    """

    name: str
    source: Source
    metrics: Metrics
    expected_scores: Floats | None
    mistakes: tuple[Mistake, ...]


def read_evaluation(name: str, folder: Path) -> EvaluationResult:
    """Read ``metrics.json`` and ``predictions.parquet``.

    Args:
        name: How to call it.
        folder: Written by :func:`labelstream.training.evaluation.write_evaluation`.

    Raises:
        SettingsError: A file or a key is missing, or the two files are not of the same run.
    """
    path = folder / METRICS_FILE
    metrics, source = read_part(path, Metrics, what=f"evaluation {name}")
    if metrics.labels is None:
        return EvaluationResult(name, source, metrics, None, ())
    predictions = folder / _PREDICTIONS_FILE
    content = read_bytes(predictions)
    if hashlib.sha256(content).hexdigest() != metrics.predictions_sha256.get(_PREDICTIONS_FILE):
        raise SettingsError(f"{path}: predictions_sha256 is not that of {predictions}; evaluate anew")
    table = _read_predictions(predictions, content)
    scores = np.asarray(table.column("expected_score").to_numpy(), np.float64)
    return EvaluationResult(name, source, metrics, scores, _mistakes(table, scores, metrics.levels, predictions))


def _read_predictions(path: Path, content: bytes) -> pa.Table:
    try:
        file = pa.parquet.ParquetFile(io.BytesIO(content))
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise SettingsError(f"{path}: column {missing[0]} is missing; evaluate anew")
        table = file.read(columns=list(_COLUMNS))
    except _UNREADABLE as error:
        raise SettingsError(f"{path}: not a Parquet file that can be read; evaluate anew") from error
    empty = [name for name in _COLUMNS if table.column(name).null_count]
    if empty:
        raise SettingsError(f"{path}: column {empty[0]} has nulls though metrics.json has labels; evaluate anew")
    return table


def _mistakes(table: pa.Table, scores: Floats, levels: tuple[str, ...], path: Path) -> tuple[Mistake, ...]:
    said, predicted = (np.asarray(table.column(name).to_numpy(), np.int64) for name in ("level", "predicted_level"))
    for name, places in (("level", said), ("predicted_level", predicted)):
        if ((places < 0) | (places >= len(levels))).any():
            raise SettingsError(f"{path}: column {name} has levels beyond the {len(levels)} of metrics.json")
    wrong = np.flatnonzero(said != predicted)
    distance = np.abs(scores - np.linspace(0.0, 1.0, len(levels))[said])
    furthest = wrong[np.argsort(-distance[wrong], kind="stable")][:MISTAKES_SHOWN]
    queries, products = (table.column(name).take(furthest).to_pylist() for name in ("query", "product_id"))
    return tuple(
        Mistake(str(query), str(product), levels[said[place]], levels[predicted[place]], float(scores[place]))
        for query, product, place in zip(queries, products, furthest, strict=True)
    )
