"""An end for questions to a server that hangs: whoever asks us over HTTP is answered within seconds all the same."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class InTime(Generic[T]):
    """A question that is asked in a thread of its own, from now on.

    Args:
        ask: asks it; it raises nothing, and ends by itself sooner or later.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        self._answers: list[T] = []
        self._thread = threading.Thread(target=lambda: self._answers.append(ask()), daemon=True)
        self._thread.start()

    def answer(self, seconds: float) -> T | None:
        """The answer; None where there is none after so long."""
        self._thread.join(seconds)
        return self._answers[0] if self._answers else None
