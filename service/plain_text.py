"""Text that comes from outside, made harmless where it is shown: on a terminal, in a log, in a notification.

A terminal obeys control characters (ECMA-48: C0, DEL, C1), and shows text in another order after some of Unicode's
(UAX #9: the bidirectional controls). A surrogate alone cannot be written as UTF-8 at all.

Why: `docs/decisions/0027-text-from-outside.md`.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_UNSAFE = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
UNSAFE = re.compile(f"[{_UNSAFE}]")
UNSAFE_BUT_NEWLINE = re.compile(f"(?!\n)[{_UNSAFE}]")
MAX_LINE_LENGTH = 200
# Of a document that is nested deep, indentation is nearly all: 250 KB of it were 450 MB of text.
MAX_INDENTED_GROWTH = 10

# Where spreadsheets see a formula (OWASP, CSV injection): at the beginning of a cell. In many languages they split a
# line at semicolons and heed no quotes within it. The last four are the full-width forms of = + - @.
_FORMULA = re.compile(r'(?:\A|(?<=[,;|\t\r\n]))(?=[ "]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])')


def escape_controls(text: str, *, lines: bool = False) -> str:
    """The text with every character that a terminal would obey spelled out: an escape is a backslash and `x1b`.

    With `lines`, its line breaks are ours, and stay.
    """
    unsafe = UNSAFE_BUT_NEWLINE if lines else UNSAFE
    return unsafe.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def indented_json(document: Any, default: Callable[[Any], Any] = str) -> str:
    """A JSON document in lines as people read it; in one line where it would be long, and ten times as long so.

    Args:
        document: what `json` can write.
        default: writes what else is in it.
    """
    compact = json.dumps(document, ensure_ascii=False, default=default)
    pieces: list[str] = []
    left = max(len(compact) * MAX_INDENTED_GROWTH, 100_000)
    for piece in json.JSONEncoder(ensure_ascii=False, indent=2, default=default).iterencode(document):
        left -= len(piece)
        if left < 0:
            return compact
        pieces.append(piece)
    return "".join(pieces)


def one_line(text: str) -> str:
    """The text as part of a line: what a terminal would obey is a space, and what is too long is cut."""
    words = " ".join(UNSAFE.sub(" ", text).split())
    return words if len(words) <= MAX_LINE_LENGTH else f"{words[: MAX_LINE_LENGTH - 1]}…"


def csv_cell(value: Any, *, safe: bool) -> Any:
    """A value in CSV: `true` or `false`, a time in UTC, a text that, where `safe`, is no formula for a spreadsheet."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    # An apostrophe is before what a spreadsheet would take for a formula.
    return _FORMULA.sub("'", value) if safe and isinstance(value, str) else value
