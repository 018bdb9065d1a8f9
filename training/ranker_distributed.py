"""Train the ranker on several machines: Ray Train starts the workers, XGBoost adds up their histograms."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from labelstream.schemas.errors import MissingDependency, ModelUnavailable, SettingsError
from labelstream.schemas.learning_settings import RankerSettings
from labelstream.training.ranker import MODEL, Ranker, boost, check_rows
from labelstream.training.ranking_matrix import xgboost
from labelstream.training.ranking_rows import QUERY, RankingFile, RankingSet

_Paths = tuple[Path, Path | None]


class QueryShare:
    """One worker's queries of a file: every so-many-th query, always whole.

    Ray Data would cut the rows into equal parts, through the middle of queries, and a pair that is cut apart is never
    compared. So every worker reads the file itself and keeps its own queries.

    Args:
        file: On storage that all workers see.
        worker: Which one, from 0.
        workers: How many there are.
    """

    def __init__(self, file: RankingFile, worker: int, workers: int) -> None:
        self._file, self._worker, self._workers = file, worker, workers
        self.names = file.names
        self._rows = int(np.count_nonzero(_queries(file) % workers == worker))

    def __len__(self) -> int:
        return self._rows

    def batches(self, rows: int) -> Iterator[RankingSet]:
        """See ``RankingRows``; a batch has about so many rows before the queries of others are left out."""
        for batch in self._file.batches(rows):
            mine = np.flatnonzero(batch.query_numbers % self._workers == self._worker)
            if len(mine):
                yield batch.select(mine)


def train_distributed(
    training: RankingFile,
    validation: RankingFile | None = None,
    settings: RankerSettings | None = None,
    *,
    workers: int,
    storage: Path,
    label: str = "",
) -> Ranker:
    """Train as ``Ranker.train`` does, on the Ray cluster that the caller is connected to.

    The trees are nearly those of one machine, not to the byte: bins come from merged sketches, and sums are taken in
    another order. Each worker takes ``settings.threads`` CPUs.

    Args:
        training: On storage that all workers see; at least one query a worker.
        validation: Likewise.
        settings: How.
        workers: How many processes.
        storage: A folder that all workers see, for what Ray Train keeps of the run.
        label: What the labels mean, for the card.

    Raises:
        SettingsError: The rows cannot be trained on, or there are fewer queries than workers.
        MissingDependency: Ray Train lacks a package.
        ModelUnavailable: A worker died, or could not be started.
    """
    settings = settings or RankerSettings()
    check_rows(training, validation, settings)
    for file in (training, validation):
        if file is not None and (queries := len(np.unique(_queries(file)))) < workers:
            raise SettingsError(f"{file.path}: {queries} queries for {workers} workers; take fewer workers")
    paths = (training.path, None if validation is None else validation.path)
    booster = xgboost.Booster({"nthread": settings.threads})
    booster.load_model(bytearray(_run(paths, settings, workers, storage)))
    return Ranker.of(booster, settings, training.names, label)


def _run(paths: _Paths, settings: RankerSettings, workers: int, storage: Path) -> bytes:
    """The trees of a distributed run."""
    try:
        import ray.train
        from ray.train.xgboost import XGBoostTrainer
    except ImportError as error:
        raise MissingDependency("pandas", "dev") from error  # the one part of ray[train] that ray[serve] lacks

    trainer = XGBoostTrainer(
        _work,
        train_loop_config={"paths": paths, "settings": settings.model_dump()},
        scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": settings.threads}),
        run_config=ray.train.RunConfig(storage_path=str(storage), name=f"ranker-{uuid.uuid4().hex}"),
    )
    try:
        checkpoint = trainer.fit().checkpoint
    except ray.train.TrainingFailedError as error:
        raise ModelUnavailable(f"a worker of the training failed: {error}") from error
    with checkpoint.as_directory() as folder:
        return (Path(folder) / MODEL).read_bytes()


def _work(config: dict[str, Any]) -> None:
    """What one worker does; XGBoost's communicator is set up around it."""
    import ray.train

    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    training, validation = (
        None if path is None else QueryShare(RankingFile(path), rank, workers) for path in config["paths"]
    )
    assert training is not None
    with tempfile.TemporaryDirectory(prefix="labelstream-ranker-") as folder:
        booster = boost(training, validation, RankerSettings(**config["settings"]), Path(folder))
        (Path(folder) / "trees").mkdir()
        (Path(folder) / "trees" / MODEL).write_bytes(booster.save_raw("json"))
        # Every worker has the same trees; one of them hands them in.
        trees = ray.train.Checkpoint.from_directory(str(Path(folder) / "trees")) if rank == 0 else None
        ray.train.report({}, checkpoint=trees)


def _queries(file: RankingFile) -> Any:
    return pq.read_table(file.path, columns=[QUERY])[QUERY].to_numpy()
