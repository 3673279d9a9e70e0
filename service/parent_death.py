"""Run as a script: becomes the given command, which ends when the process that started it ends.

`parent_death.py SIGNAL PARENT COMMAND…`: Linux sends SIGNAL to COMMAND when PARENT dies, however it dies. It is a
process of its own because the kernel forgets the request whenever credentials change, so it has to be the last step
before the command; code between fork and exec would moreover be unsafe in a parent with threads. Elsewhere it only
becomes the command.

Sources: prctl(2), PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent(command: Sequence[str | Path], death_signal: signal.Signals) -> list[str]:
    """A command line that becomes `command` and is sent the signal `death_signal` when this process ends.

    Linux counts the thread that starts it as its parent: start it from a thread that lives as long as the process.
    """
    return [sys.executable, "-I", "-S", __file__, str(death_signal.value), str(os.getpid()), *map(str, command)]


def signal_on_parent_death(parent: int, number: int) -> None:
    """Let Linux send this process the signal `number` when `parent` dies; end at once when it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")


def main(arguments: list[str]) -> None:
    """Ask for the signal, make sure that the parent still lives, become the command."""
    number, parent, *command = arguments
    signal_on_parent_death(int(parent), int(number))
    # The command is our own, never from outside.
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
