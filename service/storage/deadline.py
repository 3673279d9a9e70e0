"""A deadline for a call into a server that hangs: it takes connections and sends no response."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

from service.errors import PostgresUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

ResultT = TypeVar("ResultT")


class BackgroundCall(Generic[ResultT]):
    """A call of a server in a thread of its own, from now on.

    No timeout of libpq ends a statement that a stopped server has taken; the pool bounds how many hang so.
    """

    def __init__(self, call: Callable[[], ResultT]) -> None:
        self._call = call
        self._future: Future[ResultT] = Future()
        threading.Thread(target=self._work, daemon=True).start()

    def result(self, seconds: float) -> ResultT:
        """The result or error of `call`, when it does so in time; else it goes on alone, and its result is lost.

        Raises:
            PostgresUnavailable: no result in time.
        """
        try:
            return self._future.result(seconds)
        except TimeoutError:
            raise PostgresUnavailable(f"no response in {seconds:.0f} s") from None

    def _work(self) -> None:
        try:
            self._future.set_result(self._call())
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            self._future.set_exception(error)
