"""What a process does on SIGINT and SIGTERM: it ends at once (`end_on_signals`), or sets an event (`stop_on_signals`).

No handler here raises an error: it would come up in any code, where a library takes it for one of its own, and where
Python prints it and goes on. Nothing heavy is imported here, so that a command has handlers before all else.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_TIMEOUT_SECONDS = 8.0
RECORD_SECONDS = 3.0
# What `end_on_signals` still calls, in another thread: each records that something was cut short.
before_end: list[Callable[[], object]] = []


def end_on_signals() -> None:
    """End this process on SIGINT and SIGTERM, with one line, and by that signal: a shell shows status 130 or 143."""
    recorded = _thread.allocate_lock()
    recorded.acquire()

    def record() -> None:
        for one in tuple(before_end):
            one()
        recorded.release()

    def end(number: int, _frame: Any) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        with suppress(OSError):
            os.write(2, f"headshot-mirror: stopped by {signal.Signals(number).name}\n".encode())
        if before_end:
            # `threading` takes locks that the interrupted code may hold; so may the calls: hence a timeout.
            _thread.start_new_thread(record, ())
            recorded.acquire(timeout=RECORD_SECONDS)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        # The kernel ignores it for the first process of a container.
        os._exit(128 + number)

    _install(end)


def stop_on_signals(stop: threading.Event) -> None:
    """Set `stop` on SIGTERM and on SIGINT."""
    set_stop = setter_for_handlers(stop)
    _install(lambda _number, _frame: set_stop())


def start_exit_watchdog(stop: threading.Event, before_exit: Callable[[], None] = lambda: None) -> None:
    """End this process when it still runs some seconds after `stop` was set: SIGTERM ends each within ten seconds.

    A call of a server that neither responds nor refuses cannot be interrupted from inside. Nothing is lost by ending in
    the middle of it: what was not committed is done again, and what is done twice changes nothing. `before_exit` is
    called then, and must not wait for anything.
    """
    threading.Thread(target=_exit_after_timeout, args=(stop, before_exit), daemon=True).start()


@contextmanager
def signals_held() -> Iterator[None]:
    """Start a process that gets both signals only when it installs handlers for them, also those that come before.

    While it is starting, Python would print a traceback for SIGINT.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def setter_for_handlers(event: threading.Event) -> Callable[[], object]:
    """A function that a signal handler calls to set an event, as often as signals come.

    `Event.set` takes a lock. A handler runs between two steps of the main thread, which may hold that lock because it
    begins to wait for the event: both would wait for ever. So it writes to a pipe, and a thread sets the event.
    """
    reading, writing = os.pipe()

    def set_event() -> None:
        os.read(reading, 1)
        event.set()

    threading.Thread(target=set_event, name="signals", daemon=True).start()
    # A process that ends in order has its exit status, whatever comes during Python's own end.
    atexit.register(_install, signal.SIG_IGN)
    return partial(os.write, writing, b"\0")


def _install(handler: Callable[[int, Any], object] | signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)
    # The process that started this one may have held them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _exit_after_timeout(stop: threading.Event, before_exit: Callable[[], None]) -> None:
    import structlog  # noqa: PLC0415 - see the top

    stop.wait()
    time.sleep(EXIT_TIMEOUT_SECONDS)
    structlog.get_logger(__name__).warning("shutdown.forced")
    before_exit()
    # Status 0: it ends because of SIGTERM.
    os._exit(0)
