"""Ray for a ranker that several workers train: joined or started, with a folder that all of them see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import ray

from labelstream.actors.cluster import start_ray
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings
from labelstream.training.durable_files import leftovers, make_folder, storage_errors

PREFIX = ".labelstream-ranker-"


@contextmanager
def ranker_workers(settings: Settings) -> Iterator[Path]:
    """Be connected to Ray as long as a ranker is trained.

    Args:
        settings: All settings.

    Yields:
        An empty folder that all workers see; it is removed in the end, whatever happens.

    Raises:
        SettingsError: There is no such folder, or it may not be written.
    """
    with ExitStack() as at_the_end:
        try:
            start_ray(settings, settings.ranker.workers * settings.ranker.threads)
            yield at_the_end.enter_context(_folder_in(_storage(settings)))
        finally:
            ray.shutdown()  # before the folder goes, so that nobody writes into it any more


def _storage(settings: Settings) -> Path:
    if settings.ray.storage is not None:
        return settings.ray.storage.resolve()
    nodes = sum(node["Alive"] for node in ray.nodes())
    if nodes > 1:
        raise SettingsError(
            f"LABELSTREAM_RAY_STORAGE is not set, and the Ray cluster has {nodes} nodes; name a folder that all of "
            "them see, or train with 1 worker"
        )
    return settings.registry.folder.resolve().parent


@contextmanager
def _folder_in(storage: Path) -> Iterator[Path]:
    with storage_errors(storage):
        make_folder(storage)
        made = TemporaryDirectory(prefix=PREFIX, dir=storage, ignore_cleanup_errors=True)
    with made as folder:
        for leftover in leftovers(storage.glob(f"{PREFIX}*")):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        yield Path(folder)
