"""Progress of a worker's children, reported over a pipe: the supervisor finds a child that makes none.

Not through Postgres or Redis: an outage of either must not look like a child that hangs. A child reports each
statement that ends, each job, and each round of waiting; one that is stopped, or stuck in a statement, is silent.

Why: `docs/decisions/0016-progress-over-a-pipe.md`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from time import monotonic

# More reports than this say no more.
_REPORT_SECONDS = 0.2


class ProgressReporter:
    """A child's end of the pipe. Any thread that does the child's work may report.

    Args:
        descriptor: the end that is written to; None where no supervisor listens.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._next = 0.0
        if descriptor is not None:
            # A supervisor that does not read must not stop its children.
            os.set_blocking(descriptor, False)

    def __call__(self) -> None:
        """Report that the work goes on, or waits for a server or for work."""
        now = monotonic()
        if self._descriptor is None or now < self._next:
            return
        self._next = now + _REPORT_SECONDS
        with suppress(OSError):
            os.write(self._descriptor, b".")


class ProgressMonitor:
    """The supervisor's end: what one child reported. For one thread.

    Attributes:
        descriptor: the child's end; to be closed here when the child has it.
        last: when the last report was read, on the monotonic clock; None before the first.
    """

    def __init__(self) -> None:
        self._read, self.descriptor = os.pipe()
        os.set_blocking(self._read, False)
        self._began = monotonic()
        self.last: float | None = None

    def silent_seconds(self) -> float:
        """Seconds since the last report; since the child's start where there is none yet."""
        # At the end of the pipe, when the child is dead, there is nothing to read.
        with suppress(BlockingIOError):
            while os.read(self._read, 65536):
                self.last = monotonic()
        return monotonic() - (self.last or self._began)

    def close(self) -> None:
        """Close the supervisor's end."""
        os.close(self._read)
