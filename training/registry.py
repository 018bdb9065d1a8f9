"""The registry: model versions and who is champion, as files that several machines may share.

::

    <root>/<kind>/versions/<version>/          manifest.json and the model's files; never changed once it is there
    <root>/<kind>/promotions/<number>.json     the chain of promotions, rollbacks and prunings
    <root>/<kind>/staging/, trash/             what is being put together, and what is being deleted

A version appears by one rename and a promotion by one link. A process may be killed between any two steps: what it
leaves is in ``staging`` or ``trash``, where nobody looks for models, and is swept away later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from labelstream.schemas.errors import ModelUnusable, SettingsError, StaleChampion, TransientError
from labelstream.training.durable_files import make_folder, storage_errors
from labelstream.training.manifest import Kind, Manifest, Origin
from labelstream.training.promotions import Chain, History, Record
from labelstream.training.versions import Versions

KINDS: tuple[Kind, ...] = get_args(Kind)

_TRIES = 20


class Entry(NamedTuple):
    """The champion.

    Attributes:
        version: Which one.
        folder: Where its files are.
        promoted_at: When it became champion.
        reason: Why.
        previous: The champion before it; None for the first.
        number: Of the step that made it champion; a higher one is newer.
    """

    version: str
    folder: Path
    promoted_at: datetime
    reason: str
    previous: str | None
    number: int


class Registry:
    """Model versions below a folder. Reading makes no folders; any number of processes may use it at once.

    Every method raises SettingsError where the folder cannot be used or its records are damaged, and
    TransientError where the storage is full or does not answer.

    Args:
        root: On a file system with hard links; NFS has them.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._chains = {kind: Chain(root / kind / "promotions") for kind in KINDS}
        self._versions = {kind: Versions(root / kind, kind, chain) for kind, chain in self._chains.items()}

    @contextlib.contextmanager
    def stage(self, kind: Kind) -> Iterator[Path]:
        """A folder of the caller's own, on the registry's file system, for the files of a version.

        It is deleted at the end, unless ``add`` has made a version of it. After a kill it is swept away by a later
        ``stage`` or ``promote``, when nothing in it has changed for three days. So train elsewhere, and stage what is
        finished.
        """
        versions = self._versions[kind]
        with storage_errors(self._root):
            folder = versions.new_staging_folder()
            versions.sweep()
        try:
            yield folder
        finally:
            with storage_errors(self._root):
                versions.discard_staging_folder(folder)

    def add(self, kind: Kind, folder: Path, *, origin: Origin, metrics: Mapping[str, Any]) -> str:
        """Make a version of a staged folder. The same files of the same origin are the same version.

        Args:
            kind: What the model does.
            folder: From ``stage``, with all files in it.
            origin: What the model was made from.
            metrics: How well it did, as JSON. When a version is added again, those of the first time are kept.

        Returns:
            The version.

        Raises:
            SettingsError: No files, or links among them.
            TransientError: The version was being pruned at this very moment, or the folder was swept away.
        """
        with storage_errors(self._root):
            return self._versions[kind].add(folder, origin, metrics)

    def champion(self, kind: Kind) -> Entry | None:
        """The champion, or None where there is none yet; cheap enough to be asked every second."""
        with storage_errors(self._root):
            record = self._chains[kind].champion()
            return None if record is None else self._entry(kind, record)

    def _entry(self, kind: Kind, record: Record) -> Entry:
        assert record.version is not None
        folder = self._versions[kind].folder(record.version)
        return Entry(record.version, folder, record.at, record.reason, record.previous, record.number)

    def history(self, kind: Kind) -> History:
        """Every promotion, rollback and pruning."""
        with storage_errors(self._root):
            return self._chains[kind].read()

    def manifest(self, kind: Kind, version: str) -> Manifest:
        """The manifest of one version.

        Raises:
            SettingsError: There is no such version.
            ModelUnusable: The manifest cannot be read.
        """
        with storage_errors(self._root):
            return self._versions[kind].manifest(version)

    def versions(self, kind: Kind) -> list[Manifest]:
        """All versions, oldest first. Of one whose manifest cannot be read there is a warning."""
        with storage_errors(self._root):
            return self._versions[kind].manifests()

    def names(self, kind: Kind) -> list[str]:
        """All versions by name, also those whose manifest cannot be read."""
        with storage_errors(self._root):
            return self._versions[kind].names()

    def verify(self, kind: Kind, version: str) -> list[str]:
        """Compare a version's files with its manifest, every byte of them.

        Returns:
            What is wrong, in words; nothing where all is as it was added.

        Raises:
            SettingsError: There is no such version.
        """
        with storage_errors(self._root):
            return self._versions[kind].damage(version)

    def promote(self, kind: Kind, version: str, *, expected: str | None, reason: str) -> Entry:
        """Make a version the champion, if the champion is still the one that it was compared with.

        Nothing happens where the version is champion already, so a run that was killed may be repeated.

        Args:
            kind: What the model does.
            version: The new champion; its files are verified first.
            expected: The champion now; None for none.
            reason: Why, for those who read the history.

        Raises:
            StaleChampion: Somebody else was quicker.
            SettingsError: There is no such version.
            ModelUnusable: Its files are not what they were.
        """
        self._require_sound(kind, version)

        def decide(history: History) -> Record | None:
            if version in history.pruned:
                raise SettingsError(f"{kind} {version} has been pruned; train it again")
            if _champion_of(history) == version:
                return None
            _require_champion(kind, history, expected)
            return _next(history, "promote", version, reason)

        return self._step(kind, decide)

    def rollback(self, kind: Kind, reason: str, *, expected: str | None = None) -> Entry:
        """Go back to the champion before this one; twice goes back twice.

        It does not toggle: who rolls back again, in haste, wants the model before, and not the one that was bad a
        minute ago. ``promote`` brings that one back.

        Args:
            kind: What the model does.
            reason: Why, for those who read the history.
            expected: The champion to get rid of; without it, whichever is champion now. Of two who roll back at
                once, one goes back and the other is told so.

        Raises:
            StaleChampion: The champion has changed.
            SettingsError: There is nothing to go back to.
            ModelUnusable: The files of the one before are not what they were.
        """
        unwanted = expected if expected is not None else _champion_of(self.history(kind))

        def decide(history: History) -> Record:
            _require_champion(kind, history, unwanted)
            if len(history.rollback_path) <= 1:
                raise SettingsError(f"there is no {kind} to roll back to; promote a version by its name")
            _, before, *_ = history.rollback_path
            self._require_sound(kind, before)
            return _next(history, "rollback", before, reason)

        return self._step(kind, decide)

    def prune(self, kind: Kind, *, keep: int) -> tuple[str, ...]:
        """Delete old versions.

        Args:
            kind: What the models do.
            keep: At least 1. The newest ``keep`` versions stay, and the champion, and the ``keep`` versions that as
                many rollbacks lead to. So does a version whose manifest cannot be read: its age is not known.

        Returns:
            The versions that are deleted, also those that a killed ``prune`` had left half done.
        """
        if keep < 1:
            raise SettingsError(f"keep={keep}: at least 1 version must stay")

        def decide(history: History) -> Record | None:
            manifests = self.versions(kind)
            staying = {*(manifest.version for manifest in manifests[-keep:]), *history.rollback_path[: keep + 1]}
            old = tuple(manifest.version for manifest in manifests if manifest.version not in staying)
            reason = f"older than the newest {keep}"
            return _next(history, "prune", _champion_of(history), reason, old) if old else None

        # Said before it is done: a promotion that comes later sees it, and one that came first makes this one late.
        self._change(kind, decide)
        with storage_errors(self._root):
            return self._versions[kind].delete_pruned()

    def _require_sound(self, kind: Kind, version: str) -> None:
        if wrong := self.verify(kind, version):
            remedy = "promote another version, or delete its folder and train it again"
            raise ModelUnusable(f"{kind} {version}: {'; '.join(wrong)}; {remedy}")

    def _step(self, kind: Kind, decide: Callable[[History], Record | None]) -> Entry:
        champion = self._change(kind, decide).champion
        assert champion is not None
        return self._entry(kind, champion)

    def _change(self, kind: Kind, decide: Callable[[History], Record | None]) -> History:
        """Append what is decided on the newest history, and decide again where somebody else was quicker."""
        for _ in range(_TRIES):
            with storage_errors(self._root):
                history = self._chains[kind].read()
                record = decide(history)
                if record is None:
                    return history
                if self._append(kind, record):
                    return History((*history.records, record))
        raise TransientError(f"{self._root}: others change the {kind} all the time; try again")

    def _append(self, kind: Kind, record: Record) -> bool:
        make_folder(self._root / kind / "promotions")
        with self.stage(kind) as folder:
            return self._chains[kind].append(record, draft=folder / "record.json")


def _champion_of(history: History) -> str | None:
    return history.champion.version if history.champion else None


def _require_champion(kind: Kind, history: History, expected: str | None) -> None:
    champion = _champion_of(history)
    if champion != expected:
        raise StaleChampion(
            f"the {kind} is {champion or 'none'} by now and not {expected or 'none'}; compare with it and try again"
        )


def _next(
    history: History,
    action: Literal["promote", "rollback", "prune"],
    version: str | None,
    reason: str,
    pruned: tuple[str, ...] = (),
) -> Record:
    return Record(
        number=len(history.records) + 1,
        action=action,
        at=datetime.now(UTC),
        reason=reason,
        version=version,
        previous=_champion_of(history),
        pruned=pruned,
    )
