"""Ask Postgres with an end to one's patience: a server that hangs takes connections and answers nobody."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from service.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")


def in_time(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What `ask` answers or raises, when it does so in time; else it goes on alone, and its answer is lost.

    No time-out of libpq ends a statement that a stopped server has taken; the pool bounds how many hang so.

    Raises:
        StorageUnavailable: no answer in time.
    """
    answer: Future[Answer] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise StorageUnavailable(f"Postgres gave no answer in {seconds:.0f} s") from None
