"""Which processes belong to a folder, and waiting for things to happen."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.local.servers import Postgres, Valkey

T = TypeVar("T")

# How long a test waits for what it does not time: a slow machine fails no test, and a passing one waits no longer.
TEST_TIMEOUT_SECONDS = 90.0


def processes_in(folder: Path) -> dict[int, str]:
    """Process ids and command lines of everything on this machine that works in a folder or below it.

    Servers and the children of `up` all do, and so do those that they start.
    """
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            place = (entry / "cwd").readlink()
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if place == folder or folder in place.parents:
            found[int(entry.name)] = words
    return found


def descendants(pid: int) -> list[int]:
    """The processes below one, nearest first."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return children + [one for child in children for one in descendants(child)]


def kill(pid: int) -> None:
    """End a process as a crash would; one that has ended is left alone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def eventually(look: Callable[[], T], seconds: float = TEST_TIMEOUT_SECONDS) -> T:
    """The first true answer of `look`, or its last one when the time is over.

    Args:
        look: asked again and again.
        seconds: how long at most; given only where the number is a promise of the product, or where a false answer is
            the right one. Any other wait only has to end.
    """
    began, pause = time.monotonic(), 0.01
    while not (seen := look()) and time.monotonic() < began + seconds:
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    return seen


@contextmanager
def suspended(server: Postgres | Valkey) -> Iterator[None]:
    """The server's processes take connections and never answer."""
    pids = list(processes_in(server.folder.path))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
