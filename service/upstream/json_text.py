"""JSON that others wrote, read so that one odd character in a title cannot stop a pull or lose an event.

JSON may say things that Postgres cannot store (NUL) or that are no text at all: half of an emoji, an escape
from `d800` to `dfff` without its twin, is what a JavaScript server sends when it cuts a title at a fixed length.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

T = TypeVar("T")

REPLACEMENT = "\ufffd"

# Python refuses to read integers of more than 4,300 digits from text.
MAX_INTEGER_DIGITS = 4000

# What is nested deeper is refused: the limits of Python, msgspec and Postgres depend on versions and stacks. Python
# 3.11 reads 990 levels less those of its calls; Python 3.14 reads 65,000, which ended a session of Postgres.
MAX_DEPTH = 920

# The last quote may be missing: without the question mark a text without end would be searched again from each quote.
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET = re.compile(rb"[]\[{}]")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a body, with what cannot be stored as text replaced by U+FFFD.

    Raises:
        msgspec.ValidationError: it is JSON, but not of the decoder's type; the message names the place.
        ValueError: it is not JSON in UTF-8, or nested too deep.
    """
    if b"\\u0000" in body:
        return msgspec.convert(loads(body), decoder.type)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # msgspec refuses halves of surrogate pairs, rightly; the slow way mends them.
        return msgspec.convert(loads(body), decoder.type)


def loads(body: bytes, *, constants: bool = False) -> Any:
    """A JSON document as Python's values, its texts as Postgres takes them.

    Text that cannot be stored becomes U+FFFD. A number past every range becomes an infinity, which no field takes.

    Args:
        body: the document.
        constants: take `NaN` and `Infinity`, which are no JSON and which Python's encoder writes, as numbers.

    Raises:
        ValueError: it is not JSON in UTF-8, or nested too deep.
    """
    return _read(
        body,
        float,
        lambda digits: int(digits) if len(digits) <= MAX_INTEGER_DIGITS else math.inf,
        float if constants else _refuse_constant,
    )


def refuse_too_deep(body: bytes) -> None:
    """Check how deep a JSON document is nested.

    Raises:
        ValueError: deeper than `MAX_DEPTH` levels.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.findall(_TEXT.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def storable(body: bytes) -> bytes:
    """The same JSON document as Postgres' `jsonb` takes it: no NUL, no lone surrogate, no number past its range.

    Text that cannot be stored becomes U+FFFD, a number out of range null.

    Raises:
        ValueError: it is not JSON in UTF-8, or nested too deep.
    """
    document = _read(body, finite_or_none, integer_or_none, _refuse_constant)
    try:
        return json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None


def _read(
    body: bytes,
    parse_float: Callable[[str], Any],
    parse_int: Callable[[str], Any],
    parse_constant: Callable[[str], Any],
) -> Any:
    try:
        return _clean(
            json.loads(body.decode(), parse_float=parse_float, parse_int=parse_int, parse_constant=parse_constant)
        )
    except RecursionError:
        raise ValueError("nested too deep") from None


def _clean(document: Any) -> Any:
    """Mend every text of a decoded document, in place.

    Without recursion: a body that the decoder could read must not be nested too deep for this.
    """
    whole = [document]
    containers: list[dict[str, Any] | list[Any]] = [whole]
    while containers:
        container = containers.pop()
        if isinstance(container, dict):
            pairs = [(_text(name), value) for name, value in container.items()]
            container.clear()
            container.update(pairs)
        places: Iterable[Any] = list(container) if isinstance(container, dict) else range(len(container))
        for place in places:
            value = container[place]
            if isinstance(value, str):
                container[place] = _text(value)
            elif isinstance(value, dict | list):
                containers.append(value)
    return whole[0]


def _text(value: str) -> str:
    if "\0" not in value and value.isascii():
        return value
    halves_mended = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return halves_mended.replace("\0", REPLACEMENT)


def finite_or_none(digits: str) -> float | None:
    """A number of a JSON document; None where it is past the range of a float."""
    number = float(digits)
    return number if math.isfinite(number) else None


def integer_or_none(digits: str) -> int | None:
    """An integer of a JSON document; None where it is longer than Python reads."""
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
