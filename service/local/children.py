"""The processes of the system as children of `up`: started and ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Self

from service.local.servers.process import LoggedProcess
from service.parent_death import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


class ManagedProcess(LoggedProcess):
    """A command that runs until it is ended; it is ended too when this process is."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        super().__init__(log)
        self._command = command
        self._environment = environment
        self._since = 0

    def boot(self) -> Self:
        """Start the process, and return before it is ready; `pid` and its log show whether it works."""
        self._since = self._spawn(die_with_parent(self._command, signal.SIGTERM), env=self._environment)
        return self

    def output(self) -> bytes:
        """Its output since it was started."""
        return self.log.read_bytes()[self._since :]

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), without waiting."""
        if self._process is not None:
            self._process.terminate()

    def wait_or_kill(self, deadline: float) -> None:
        """Wait for its end until `deadline` (monotonic seconds), then kill it and what it started."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def stop_all(children: Iterable[ManagedProcess], timeout: float) -> None:
    """Send all of them SIGTERM, in order, and end those that still run after `timeout` seconds."""
    ending = list(children)
    deadline = time.monotonic() + timeout
    for child in ending:
        child.terminate()
    for child in ending:
        child.wait_or_kill(deadline)
