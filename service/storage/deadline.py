"""A deadline for a call into a server that hangs: it takes connections and sends no response."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

from service.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")


class Question(Generic[Answer]):
    """A question that is asked in a thread of its own, from now on.

    No time-out of libpq ends a statement that a stopped server has taken; the pool bounds how many hang so.

    Args:
        ask: asks it.
    """

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._answer: Future[Answer] = Future()
        threading.Thread(target=self._work, daemon=True).start()

    def answer(self, seconds: float) -> Answer:
        """What `ask` answers or raises, when it does so in time; else it goes on alone, and its answer is lost.

        Raises:
            StorageUnavailable: no answer in time.
        """
        try:
            return self._answer.result(seconds)
        except TimeoutError:
            raise StorageUnavailable(f"no answer in {seconds:.0f} s") from None

    def _work(self) -> None:
        try:
            self._answer.set_result(self._ask())
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            self._answer.set_exception(error)
