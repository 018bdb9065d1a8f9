"""Every error that labelstream raises on purpose.

::

    LabelstreamError
    ├── TransientError               worth another try: back off, then stop and say so
    │   ├── BrokerUnavailable        Kafka does not answer, or a leader is moving
    │   ├── LakeBusy                 somebody else holds the catalogue, or a commit lost a race
    │   ├── LakeUnavailable          the disk is full or the storage does not answer
    │   └── ModelUnavailable         an actor that holds a model is dead, restarting or hanging
    ├── TerminalError                trying again cannot help
    │   ├── BadRecord                one record breaks the contract: it goes to the dead letters
    │   ├── StaleBatch               somebody else has committed these offsets: read on from the lake
    │   ├── OffsetsBeyondTopic       the lake is ahead of the topic: the topic was made anew
    │   ├── SettingsError            a setting that cannot work
    │   ├── ModelUnusable            the model cannot give labels (missing, not a causal LM, label not one token)
    │   └── MissingDependency        a package that this feature needs is not installed
    └── (nothing else)

A ``TransientError`` that outlives its retries ends the run with one line; a ``BadRecord`` never does.
"""

from __future__ import annotations


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


class SettingsError(TerminalError):
    """A setting that cannot work; the message names it and the remedy."""


class ModelUnusable(TerminalError):
    """A model that cannot give labels; the message says why and what to set."""


class MissingDependency(TerminalError):
    """A package that is not installed.

    Args:
        package: What could not be imported.
        extra: The labelstream extra that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'labelstream[{extra}]'")
        self.package, self.extra = package, extra

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the two arguments when the error crosses a process border."""
        return (type(self), (self.package, self.extra))
