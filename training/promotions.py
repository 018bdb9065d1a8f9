"""Who is champion, and who was: a chain of numbered records that never change.

The next free number is the compare-and-swap. Whoever promotes has read the chain up to record n and creates record
n + 1; the file system lets one of them have that name, and the others read again and see that they come too late.
A record appears whole or not at all, so there is no moment at which a reader finds half a champion, and no lock
that a killed process could leave behind. A single ``champion`` file that is replaced would be as whole, but the
last of two promoters would win without having seen the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labelstream.schemas.complaint import first_complaint
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Moment
from labelstream.training.durable_files import create_once

_NAME = re.compile(r"^(\d{10})\.json$")


class Record(BaseModel):
    """One step.

    Attributes:
        number: 1, 2, 3, …
        action: What was done.
        at: When, by the clock of the machine that did it.
        reason: Why.
        version: The champion after the step; None where there is none yet.
        previous: The champion before it.
        pruned: Versions that are gone for good from this step on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1)
    action: Literal["promote", "rollback", "prune"]
    at: Moment
    reason: str
    version: str | None
    previous: str | None
    pruned: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    """All steps of one kind, oldest first."""

    records: tuple[Record, ...] = ()

    @property
    def champion(self) -> Record | None:
        """The step that made the champion."""
        return next((record for record in reversed(self.records) if record.action != "prune"), None)

    @property
    def pruned(self) -> frozenset[str]:
        """Versions that are gone for good."""
        return frozenset(version for record in self.records for version in record.pruned)

    @property
    def rolled_back(self) -> frozenset[str]:
        """Versions that were champion and were rolled back from, and that nobody has brought back since."""
        unwanted: set[str | None] = set()
        for record in self.records:
            if record.action == "rollback":
                unwanted.add(record.previous)
            if record.action != "prune":
                unwanted.discard(record.version)
        return frozenset(version for version in unwanted if version)

    @property
    def lineage(self) -> tuple[str, ...]:
        """The champion, last, on top of those that it replaced. A rollback takes away what lies above its goal."""
        stack: list[str] = []
        for record in self.records:
            if record.action == "prune" or record.version is None:
                continue
            if record.action == "rollback":
                below = stack[:-1]
                while below and below[-1] != record.version:
                    below.pop()
                stack = below[:-1]
            stack.append(record.version)
        return tuple(stack)

    @property
    def rollback_path(self) -> tuple[str, ...]:
        """The champion, and where one rollback after another leads to; pruned versions are passed over."""
        path: list[str] = []
        pruned = self.pruned
        for version in reversed(self.lineage):
            if version not in pruned and (not path or path[-1] != version):
                path.append(version)
        return tuple(path)


class Chain:
    """The records of one kind on disk.

    Args:
        folder: Where they lie; need not exist to be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> History:
        """All records.

        Raises:
            SettingsError: A record is missing or cannot be read.
        """
        return History(tuple(self._record(number) for number in range(1, self._newest() + 1)))

    def champion(self) -> Record | None:
        """The step that made the champion; reads from the newest record down, so that asking often is cheap.

        Raises:
            SettingsError: A record is missing or cannot be read.
        """
        found = (self._record(number) for number in range(self._newest(), 0, -1))
        return next((record for record in found if record.action != "prune"), None)

    def append(self, record: Record, *, draft: Path) -> bool:
        """Take the record's number, if nobody has.

        Args:
            record: With the number after the newest that was read.
            draft: A name of the caller's own on the same file system.

        Returns:
            False if somebody else was quicker: read again.
        """
        return create_once(self._path(record.number), record.model_dump_json(indent=2) + "\n", draft=draft)

    def _newest(self) -> int:
        if not self._folder.is_dir():
            return 0
        found = (_NAME.match(path.name) for path in self._folder.iterdir())
        return max((int(match[1]) for match in found if match), default=0)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:010d}.json"

    def _record(self, number: int) -> Record:
        # By name and not from the listing: one that is made while somebody else adds to the folder may have gaps.
        path = self._path(number)
        try:
            record = Record.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise SettingsError(f"{path} is missing, and later records are there; put it back from a copy") from error
        except ValidationError as error:
            raise SettingsError(f"{path}: {first_complaint(error)}; put it back from a copy") from None
        if record.number != number:
            raise SettingsError(f"{path}: holds record {record.number}; put it back from a copy")
        return record
