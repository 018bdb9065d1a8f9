"""A watchdog process: kills the brokers of a process that has died, however it died.

Run as a script with a pipe as standard input. It reads one process id a line and kills them all
(SIGKILL) once the pipe closes, which the kernel does for its owner even after ``kill -9``.

Why not the parent-death signal of Linux: that fires when the spawning *thread* ends, and a broker is
often started in a helper thread. Why not atexit: it does not run after a signal. A process handle
(pidfd) is taken as soon as an id arrives, so an id that the kernel gives to somebody else later is safe.

The owner must not fork without exec while the brokers run: the copy would hold the pipe open.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress


def guard(lines: Iterable[str]) -> None:
    """Kill every process named in ``lines`` when they end.

    Args:
        lines: Process ids in decimal, one a line, as they come.
    """
    handles = []
    for line in lines:
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(int(line)))
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)


if __name__ == "__main__":
    guard(sys.stdin)
