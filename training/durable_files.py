"""Steps on a shared file system that happen whole or not at all, whoever is killed and whenever.

Nothing here takes a lock: a lock outlives its owner, and on NFS it may not be one. What the steps rest on is that
``link`` and ``rename`` are atomic and refuse a name that is taken, on local file systems and on NFS alike.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from labelstream.schemas.errors import SettingsError, TransientError

LEFTOVER_AGE_S = 3 * 24 * 3600.0

_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP}  # some network file systems sync files, but no folders
_CANNOT_LINK = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


@contextlib.contextmanager
def storage_errors(root: Path) -> Iterator[None]:
    """Say in one line what the file system objects to.

    Args:
        root: Folder to name.

    Raises:
        SettingsError: It does not let us; somebody has to change something.
        TransientError: It is full, or does not answer.
    """
    try:
        yield
    except OSError as error:
        what = f"{error.filename or root}: {error.strerror}"
        if error.errno in _REFUSED:
            raise SettingsError(f"{what}; name a folder that may be written") from error
        raise TransientError(f"{what}; make room, or wait for the storage, and try again") from error


def make_folder(folder: Path) -> None:
    """Make a folder and what is missing above it, and see that a power cut leaves them."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync(path.parent)


def require_folder(folder: Path) -> None:
    """See that files can be put into a folder, before the long work whose result they are to hold.

    Args:
        folder: Made where it is not there.

    Raises:
        SettingsError: It is none, cannot be made, or may not be written.
        TransientError: The disk is full, or does not answer.
    """
    with storage_errors(folder):
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass


def sync(path: Path) -> None:
    """Put a file's content, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Put everything in a folder on the disk, and the folder last."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def write_new(path: Path, content: str) -> None:
    """Write a file that is not there yet, and put it on the disk."""
    with path.open("x", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes its name only when it is finished; until then who looks sees the one before.

    Args:
        path: The file; folders that are missing above it are made.

    Raises:
        SettingsError: It may not be written there.
        TransientError: The disk is full, or does not answer.
    """
    beside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with storage_errors(path.parent):
        make_folder(path.parent)
        try:
            with beside.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            sync(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def create_once(path: Path, content: str, *, draft: Path) -> bool:
    """Let a file appear whole, unless there is one of its name: of many who try at once, one does it.

    ``O_EXCL`` alone would do for the race, but a process that is killed after it leaves an empty file.

    Args:
        path: The file; its folder exists.
        content: What is to be in it.
        draft: A name of the caller's own on the same file system; nothing is left there.

    Returns:
        Whether it was us.

    Raises:
        SettingsError: The file system has no hard links.
    """
    write_new(draft, content)
    try:
        os.link(draft, path)
    except OSError as error:
        # On NFS an answer may get lost, and the question asked again finds our own link.
        if draft.stat().st_nlink < 2:  # noqa: PLR2004 - itself and its link
            if error.errno == errno.EEXIST:
                return False
            if error.errno in _CANNOT_LINK:
                raise SettingsError(f"{path.parent}: no hard links here; choose a file system that has them") from error
            raise
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
    return True


def publish(folder: Path, target: Path) -> None:
    """Let a finished folder appear under its final name, unless something is there already.

    The target is there afterwards, by us or by somebody else; in the second case the folder stays where it is.

    Raises:
        TransientError: The folder has been swept away before.
    """
    sync_tree(folder)
    try:
        folder.rename(target)
    except FileNotFoundError as error:
        if not target.exists():  # where it does, it was we: the answer got lost
            raise TransientError(f"{folder} was swept away as a leftover; stage the files again") from error
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
    sync(target.parent)


def discard(folder: Path, trash: Path) -> None:
    """Let a folder disappear in one step, and then delete what was in it.

    Without the step in between, somebody could publish or load a folder that is half deleted.
    """
    make_folder(trash)
    with contextlib.suppress(FileNotFoundError):  # somebody else was quicker
        folder.rename(trash / uuid.uuid4().hex)
    empty(trash)


def empty(trash: Path) -> None:
    """Delete what is in a folder, also what somebody else was killed over."""
    for leftover in trash.iterdir() if trash.is_dir() else ():
        shutil.rmtree(leftover, ignore_errors=True)


def leftovers(folders: Iterable[Path]) -> list[Path]:
    """Those in which nothing has changed for three days: whoever they belonged to was killed.

    Args:
        folders: One of them is the caller's own, and new: they are old by the clock of the file system, which may be
            another machine's.
    """
    changes = {folder: last_change(folder) for folder in folders}
    newest = max(changes.values(), default=0.0)
    return [folder for folder, change in changes.items() if 0 < change < newest - LEFTOVER_AGE_S]


def last_change(folder: Path) -> float:
    """Time of the newest change in a folder, in seconds since 1970 by the clock of the file system; 0 if it is gone."""
    changes = [0.0]
    for parent, _, files in os.walk(folder):
        for path in (parent, *(os.path.join(parent, name) for name in files)):  # noqa: PTH118 - os.walk's own kind
            with contextlib.suppress(FileNotFoundError):
                changes.append(os.lstat(path).st_mtime)
    return max(changes)
