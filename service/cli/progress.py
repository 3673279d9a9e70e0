"""Shared by long commands: a progress bar on a terminal, and an end on SIGINT or SIGTERM."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from service import signal_handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.runtime import Runtime

NOTHING_CHANGED = "stopped; nothing was changed"


def stop_on_signals(runtime: Runtime, message: str = NOTHING_CHANGED, after_change: str = "") -> None:
    """On SIGINT or SIGTERM end the command by `Stopping` with a message when it pauses next, or else after seconds.

    `after_change` is the message once a request that changes the upstream may have been sent.
    """

    def leave() -> None:
        with suppress(OSError):
            os.write(2, f"headshot-mirror: {runtime.stop_message}\n".encode())
        os._exit(1)

    runtime.stop_message = message
    runtime.before_write = partial(setattr, runtime, "stop_message", after_change or message)
    signal_handlers.stop_on_signals(runtime.stop)
    signal_handlers.start_exit_watchdog(runtime.stop, leave)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, silence elsewhere; gives a function of a step, how much of it is done, and its whole."""
    if not sys.stderr.isatty():
        yield lambda _step, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total)
