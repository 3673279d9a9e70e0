"""Shared by long commands: a progress bar on a terminal, and an end on SIGINT or SIGTERM."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.errors import Stopping
from service.signal_handlers import setter_for_handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.runtime import Runtime


def stop_on_signals(runtime: Runtime, message: str) -> None:
    """End the command by the error `Stopping`, whatever it waits for."""
    set_stop = setter_for_handlers(runtime.stop)

    def stop(_number: int, _frame: Any) -> None:
        set_stop()
        raise Stopping(message)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


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
