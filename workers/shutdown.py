"""The end of a process that is stuck: SIGTERM ends each within ten seconds, also while Postgres or Redis hangs.

A call of a server that neither responds nor refuses cannot be interrupted from inside. Nothing is lost by ending in
the middle of it: what was not committed is done again, and what is done twice changes nothing.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import structlog

from service.signal_handlers import setter_for_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

EXIT_TIMEOUT_SECONDS = 8.0


def stop_on_signals(stop: threading.Event) -> None:
    """Set `stop` on SIGTERM and on SIGINT."""
    set_stop = setter_for_handlers(stop)

    def request_stop(_number: int, _frame: Any) -> None:
        set_stop()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)


def start_exit_watchdog(stop: threading.Event, before_exit: Callable[[], None] = lambda: None) -> None:
    """End this process when it still runs some seconds after `stop` was set.

    `before_exit` is called then, and must not wait for anything.
    """
    threading.Thread(target=_exit_after_timeout, args=(stop, before_exit), daemon=True).start()


def _exit_after_timeout(stop: threading.Event, before_exit: Callable[[], None]) -> None:
    stop.wait()
    time.sleep(EXIT_TIMEOUT_SECONDS)
    log.warning("shutdown.forced")
    before_exit()
    # Status 0: it ends because of SIGTERM.
    os._exit(0)
