"""A place for work that may be killed: it goes on where it was, and its result appears whole or not at all."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from labelstream.schemas.errors import SettingsError
from labelstream.training.durable_files import make_folder, storage_errors

logger = logging.getLogger(__name__)

_STARTED_WITH = "started-with.json"


@contextmanager
def unfinished(out: Path, identity: Mapping[str, str]) -> Iterator[Path]:
    """A hidden folder beside the result.

    It is removed when the block ends well, and kept when it does not. A later call with the same identity gets it as
    it was; with another identity it begins anew.

    Args:
        out: Where the result will be; the block has to move it there.
        identity: What the work depends on.

    Yields:
        The folder.

    Raises:
        SettingsError: The result exists already, may not be written there, or another process is working on it.
        TransientError: The disk is full, or does not answer.
    """
    _refuse_existing(out)
    work = out.parent / f".{out.name}.unfinished"
    with storage_errors(out.parent):
        make_folder(work)
    # The lock is on the folder itself: a file of its own would be left lying about by whoever is killed.
    folder = os.open(work, os.O_RDONLY)
    try:
        _lock(folder, out)
        _refuse_existing(out)  # again: who had the lock may just have finished
        _begin(work, identity)
        yield work
        shutil.rmtree(work)
    finally:
        os.close(folder)


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise SettingsError(f"--out {out} exists; name a new folder, or remove this one")


def _lock(folder: int, out: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(f"--out {out}: another run is writing it; wait, or name another folder") from None


def _begin(work: Path, identity: Mapping[str, str]) -> None:
    started = work / _STARTED_WITH
    if _read(started) == dict(identity):
        logger.warning("an earlier run was cut off; going on with it")
        return
    for left in work.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    new = started.with_suffix(".new")
    new.write_text(json.dumps(dict(identity)))
    new.rename(started)


def _read(started: Path) -> object:
    """What a run began with, or None where that was not even written."""
    try:
        return json.loads(started.read_text())
    except (OSError, ValueError):
        return None
