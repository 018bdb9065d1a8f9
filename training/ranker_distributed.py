"""Train the ranker by several workers: Ray Train starts them, XGBoost adds up their histograms."""

from __future__ import annotations

import json
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from labelstream.schemas.errors import LabelstreamError, ModelUnavailable, SettingsError
from labelstream.schemas.learning_settings import RankerSettings
from labelstream.training.durable_files import whole_file
from labelstream.training.ranker import MODEL, Ranker, Tell, boost, check_rows
from labelstream.training.ranking_matrix import xgboost
from labelstream.training.ranking_rows import QUERY, RankingFile, RankingSet

LOOK_EVERY_S = 0.5
RESTARTS = 2  # of all workers, after one has died
WAITS_FOR_ROOM = 9  # of a minute each, beside the first: a cluster that grows needs some

_LONGEST_REASON = 300

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
    storage: Path,
    label: str = "",
    tell: Tell | None = None,
) -> Ranker:
    """Train as ``Ranker.train`` does, on the Ray cluster that the caller is connected to.

    The same rows and settings give the same bytes, wherever the workers are and also where one died and all began
    again. Another number of workers gives nearly the same trees, not to the byte: bins come from merged sketches, and
    sums are taken in another order. Each worker takes ``settings.threads`` CPUs.

    Args:
        training: On storage that all workers see; at least one query a worker.
        validation: Likewise.
        settings: How, and by how many workers.
        storage: A folder that all workers see, by its whole path; who made it has to remove what is left there.
        label: What the labels mean, for the card.
        tell: Called now and then with the trees that there are, fewer than before where all began again; in the end
            with those that are kept.

    Raises:
        SettingsError: The rows cannot be trained on, there are fewer queries than workers, or a worker does not see
            the storage.
        ModelUnavailable: Workers died again and again, or found no room.
    """
    settings = settings or RankerSettings()
    check_rows(training, validation, settings)
    for file in (training, validation):
        if file is not None and (queries := len(np.unique(_queries(file)))) < settings.workers:
            raise SettingsError(
                f"{file.path.name}: {queries} queries for {settings.workers} workers; take fewer workers"
            )
    paths = (training.path, None if validation is None else validation.path)
    booster = xgboost.Booster({"nthread": settings.threads})
    booster.load_model(bytearray(_run(paths, settings, storage, tell)))
    found = Ranker.of(booster, settings, training.names, label)
    if tell is not None:
        tell(found.card.rounds, found.card.validation_ndcg)
    return found


def _run(paths: _Paths, settings: RankerSettings, storage: Path, tell: Tell | None) -> bytes:
    """The trees of a distributed run."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    name = f"run-{uuid.uuid4().hex}"
    told = storage / f"{name}.json"
    running = ray.remote(num_cpus=0, max_retries=0)(_fit).remote(name, paths, settings, storage, told)
    while not ray.wait([running], timeout=LOOK_EVERY_S)[0]:
        if tell is not None and told.exists():
            tell(*json.loads(told.read_bytes()))
    try:
        return bytes(ray.get(running))
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise ModelUnavailable(f"the training of a ranker was lost: {_line(error)}") from error


def _fit(name: str, paths: _Paths, settings: RankerSettings, storage: Path, told: Path) -> bytes:
    """Let Ray Train do it, in a process of its own: where it runs, it takes Ctrl-C for itself and ends with code 0."""
    import ray.train
    from ray.train.xgboost import XGBoostTrainer

    trainer = XGBoostTrainer(
        _work,
        train_loop_config={"paths": paths, "settings": settings.model_dump(), "told": told},
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings.workers, resources_per_worker={"CPU": settings.threads}
        ),
        run_config=ray.train.RunConfig(
            storage_path=str(storage),
            name=name,
            failure_config=ray.train.FailureConfig(max_failures=RESTARTS, controller_failure_limit=WAITS_FOR_ROOM),
        ),
    )
    try:
        checkpoint = trainer.fit().checkpoint
    except ray.train.WorkerGroupError as error:
        raise _of_workers(error.worker_failures) from error
    except ray.train.TrainingFailedError as error:
        wanted = f"{settings.workers} workers of {settings.threads} CPUs each could not be started"
        raise ModelUnavailable(f"{wanted}; give Ray more CPUs, or take fewer workers ({_line(error)})") from error
    with checkpoint.as_directory() as folder:
        return (Path(folder) / MODEL).read_bytes()


def _of_workers(failures: dict[int, Exception]) -> LabelstreamError:
    """Our own error, where a worker has raised one."""
    for failure in failures.values():
        if isinstance(failure, LabelstreamError):
            return failure
    reasons = "; ".join(f"{rank}: {_line(failure)}" for rank, failure in sorted(failures.items()))
    return ModelUnavailable(f"workers of the training failed {RESTARTS + 1} times, at last {reasons}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST_REASON]


def _work(config: dict[str, Any]) -> None:
    """What one worker does; XGBoost's communicator is set up around it."""
    import ray.train

    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    training, validation = (
        None if path is None else QueryShare(_file(path), rank, workers) for path in config["paths"]
    )
    assert training is not None
    tell = _Told(config["told"]) if rank == 0 else None
    with tempfile.TemporaryDirectory(prefix="labelstream-ranker-") as folder:
        booster = boost(training, validation, RankerSettings(**config["settings"]), Path(folder), tell)
        (Path(folder) / "trees").mkdir()
        (Path(folder) / "trees" / MODEL).write_bytes(booster.save_raw("json"))
        # Every worker has the same trees; one of them hands them in.
        trees = ray.train.Checkpoint.from_directory(str(Path(folder) / "trees")) if rank == 0 else None
        ray.train.report({}, checkpoint=trees)


def _file(path: Path) -> RankingFile:
    if not path.exists():
        raise SettingsError(
            f"{path} is not there on {socket.gethostname()}; name a folder that all Ray nodes see in "
            "LABELSTREAM_RAY_STORAGE"
        )
    return RankingFile(path)


class _Told:
    """Says to a file how far the training is, for whoever waits for it."""

    def __init__(self, path: Path) -> None:
        self._path, self._due = path, 0.0

    def __call__(self, trees: int, ndcg: float | None) -> None:
        if time.monotonic() >= self._due:
            with whole_file(self._path) as file:
                file.write(json.dumps((trees, ndcg)).encode())
            self._due = time.monotonic() + LOOK_EVERY_S


def _queries(file: RankingFile) -> Any:
    return pq.read_table(file.path, columns=[QUERY])[QUERY].to_numpy()
