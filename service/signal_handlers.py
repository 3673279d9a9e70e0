"""Setting an event on a signal."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@cache
def setter_for_handlers(event: threading.Event) -> Callable[[], None]:
    """A function that a signal handler calls to set an event, as often as signals come.

    `Event.set` takes a lock. A handler runs between two steps of the main thread, which may hold that lock because it
    begins to wait for the event: both would wait for ever. So it writes to a pipe, and a thread sets the event.
    """
    reading, writing = os.pipe()

    def set_event() -> None:
        os.read(reading, 1)
        event.set()

    threading.Thread(target=set_event, name="signals", daemon=True).start()

    def request() -> None:
        os.write(writing, b"\0")

    return request
