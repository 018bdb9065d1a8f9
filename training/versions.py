"""The versions of one kind of model on disk: staged, made visible in one step, never changed, deleted in one step."""

from __future__ import annotations

import contextlib
import logging
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from labelstream.schemas.errors import ModelUnusable, SettingsError, TransientError
from labelstream.training.durable_files import discard, empty, leftovers, make_folder, publish, write_new
from labelstream.training.manifest import (
    MANIFEST,
    Kind,
    Manifest,
    Origin,
    content_hash,
    damage,
    digest,
    model_files,
    read_manifest,
)
from labelstream.training.promotions import Chain

logger = logging.getLogger(__name__)

_VERSION = re.compile(r"[0-9a-f]{16}(-[1-9][0-9]*)?")
_MODE = 0o777


class Versions:
    """The versions of one kind.

    Args:
        folder: Of the kind; need not exist to be read.
        kind: What the models do.
        chain: Tells which versions are pruned.
    """

    def __init__(self, folder: Path, kind: Kind, chain: Chain) -> None:
        self._folder, self._staging, self._trash = folder / "versions", folder / "staging", folder / "trash"
        self._kind, self._chain = kind, chain

    def new_staging_folder(self) -> Path:
        """An empty folder that nobody else has."""
        folder = self._staging / uuid.uuid4().hex
        make_folder(folder)
        return folder

    def discard_staging_folder(self, folder: Path) -> None:
        """Delete it, unless it has become a version."""
        if folder.exists():
            discard(folder, self._trash)

    def sweep(self) -> None:
        """Delete what killed processes have left in staging, once nothing in it has changed for three days."""
        empty(self._trash)
        if not self._staging.is_dir():
            return
        for folder in leftovers(self._staging.iterdir()):
            logger.warning("%s is a leftover and is deleted", folder)
            discard(folder, self._trash)

    def add(self, folder: Path, origin: Origin, metrics: Mapping[str, Any]) -> str:
        """Make a version of a staging folder; see ``Registry.add``."""
        if folder.parent != self._staging:
            raise ValueError(f"{folder} is no staging folder of kind {self._kind}")
        (folder / MANIFEST).unlink(missing_ok=True)  # of a try that failed
        paths = model_files(folder)
        if not paths:
            raise SettingsError(f"a {self._kind} of no files cannot be added; save the model into {folder}")
        files = {name: digest(path) for name, path in paths.items()}
        version = self._free_name(content_hash(self._kind, origin, files))
        manifest = Manifest(
            version=version,
            kind=self._kind,
            created_at=datetime.now(UTC),
            origin=origin,
            metrics=dict(metrics),
            files=files,
        )
        self._publish(folder, manifest)
        return version

    def _free_name(self, content: str) -> str:
        """The content's own name, or one with a number if that is pruned: a name that is gone never comes back.

        Otherwise a slow ``prune`` could delete what was added again in the meantime.
        """
        pruned = self._chain.read().pruned
        names = (content if number == 1 else f"{content}-{number}" for number in count(1))
        return next(name for name in names if name not in pruned)

    def _publish(self, folder: Path, manifest: Manifest) -> None:
        write_new(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        # Weights are often saved through temporary files, which only their owner may read; others will serve them.
        mode = (folder / MANIFEST).stat().st_mode & _MODE
        for name in manifest.files:
            (folder / name).chmod(mode)
        make_folder(self._folder)
        target = self._folder / manifest.version
        publish(folder, target)
        if folder.exists() and (wrong := damage(target)):  # it was there before, and somebody has been at it
            raise ModelUnusable(f"{target} is there already, and {'; '.join(wrong)}; delete that folder and try again")
        if manifest.version in self._chain.read().pruned:
            raise TransientError(f"{self._kind} {manifest.version} was pruned as it was added; try again")

    def folder(self, version: str) -> Path:
        """Where a version's files are, or were."""
        return self._folder / version

    def manifest(self, version: str) -> Manifest:
        """The manifest of a version.

        Raises:
            SettingsError: There is no such version.
            ModelUnusable: The manifest cannot be read.
        """
        with self._existing(version) as folder:
            return read_manifest(folder)

    def damage(self, version: str) -> list[str]:
        """What is wrong with a version, in words.

        Raises:
            SettingsError: There is no such version.
        """
        with self._existing(version) as folder:
            try:
                return damage(folder)
            except ModelUnusable as error:
                return [str(error)]

    @contextlib.contextmanager
    def _existing(self, version: str) -> Iterator[Path]:
        folder = self.folder(version)
        unknown = SettingsError(f"no {self._kind} has the version {version!r}; see: labelstream models list")
        if not (_VERSION.fullmatch(version) and folder.is_dir()):
            raise unknown
        try:
            yield folder
        except FileNotFoundError as error:
            if folder.is_dir():
                raise
            raise unknown from error  # pruned while we read

    def names(self) -> list[str]:
        """All versions that are there, also those whose manifest cannot be read."""
        if not self._folder.is_dir():
            return []
        pruned = self._chain.read().pruned
        return sorted(p.name for p in self._folder.iterdir() if _VERSION.fullmatch(p.name) and p.name not in pruned)

    def manifests(self) -> list[Manifest]:
        """Manifests of all versions, oldest first; of one that cannot be read there is a warning."""
        found = []
        for version in self.names():
            with contextlib.suppress(FileNotFoundError):  # pruned just now
                try:
                    found.append(read_manifest(self._folder / version))
                except ModelUnusable as error:
                    logger.warning("left out: %s", error)
        return sorted(found, key=lambda manifest: (manifest.created_at, manifest.version))

    def delete_pruned(self) -> tuple[str, ...]:
        """Delete what the chain calls pruned, also where whoever wrote that was killed before deleting it."""
        present = [] if not self._folder.is_dir() else [path.name for path in self._folder.iterdir()]
        gone = sorted(self._chain.read().pruned.intersection(present))
        for version in gone:
            discard(self._folder / version, self._trash)
        empty(self._trash)
        return tuple(gone)
