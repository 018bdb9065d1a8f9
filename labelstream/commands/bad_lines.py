"""Lines of a catalogue that hold no product: the first are shown, all are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelstream.console import err
from labelstream.printable import printable

if TYPE_CHECKING:
    from labelstream.streaming.importers import BadLine

SHOWN = 5  # a catalogue in another format has nothing else


class BadLines:
    """Told of every such line.

    Attributes:
        count: How many there were.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, line: BadLine) -> None:
        """One more."""
        self.count += 1
        if self.count <= SHOWN:
            err.print(printable(line), soft_wrap=True)

    def tell_rest(self) -> None:
        """How many were not shown, once all lines have been read."""
        if self.count > SHOWN:
            err.print(f"… and {self.count - SHOWN:,} more lines that hold no product")
