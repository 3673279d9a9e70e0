"""Tracebacks for logs: where an error was raised and of what kind it is, without what it says.

The words of a library's error may hold what it was given: Postgres repeats a row's values (its DETAIL), SQLAlchemy a
statement, json a body. Ours hold ids and counts.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from service.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Iterator


def without_messages(error: BaseException) -> str:
    """The traceback of an error and of those that led to it, the first cause first."""
    return "\n".join("".join([*traceback.format_tb(one.__traceback__), _kind(one)]) for one in _chain(error))


def place(error: BaseException) -> str:
    """File and line where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"


def _kind(error: BaseException) -> str:
    name = type(error).__qualname__
    return f"{name}: {error}" if isinstance(error, MirrorError) else name


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return reversed(found)
