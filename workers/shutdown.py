"""The end of a process that is stuck: SIGTERM ends each within ten seconds, also while a server of ours hangs.

A call into a server that neither answers nor refuses cannot be interrupted from inside. Nothing is lost by ending in
the middle of it: what was not committed is done again, and what is done twice changes nothing.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

STUCK_SECONDS = 8.0


def end_when_stuck(stop: threading.Event, last: Callable[[], None] = lambda: None) -> None:
    """End this process when it still runs some seconds after it was asked to stop.

    Args:
        stop: set when the process is asked to stop.
        last: what has to be done then, without waiting for anything.
    """
    threading.Thread(target=_watch, args=(stop, last), daemon=True).start()


def _watch(stop: threading.Event, last: Callable[[], None]) -> None:
    stop.wait()
    time.sleep(STUCK_SECONDS)
    log.warning("stop.forced")
    last()
    # Status 0: it ends because it was asked to.
    os._exit(0)
