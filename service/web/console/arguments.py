"""Parameters of the console's URLs; a parameter that cannot be read is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import request
from werkzeug.exceptions import BadRequest

MAX_TEXT_LENGTH = 500
MAX_NUMBER = 2**63 - 1
NO_PLACE = "before is no place in the list: follow a link of the page instead."


def text(name: str) -> str | None:
    """A text without white space around it; None where it is missing or empty.

    Raises:
        BadRequest: Postgres cannot hold it, or it is too long.
    """
    value = request.args.get(name, "").strip()
    if "\0" in value or len(value) > MAX_TEXT_LENGTH:
        raise BadRequest(f"{name} is no text that can be searched for: at most {MAX_TEXT_LENGTH} characters.")
    return value or None


def number(name: str) -> int | None:
    """A whole number that fits into a column; None where it is missing or empty.

    Raises:
        BadRequest: it is something else.
    """
    value = text(name)
    if value is None:
        return None
    if (found := read_number(value)) is None:
        raise BadRequest(f"{name} is no whole number: follow a link of the page instead.")
    return found


def read_number(value: str) -> int | None:
    """A whole number that fits into a column; None where the text is something else."""
    is_digits = value.isascii() and value.isdigit() and len(value) < 20
    return int(value) if is_digits and int(value) <= MAX_NUMBER else None


def moment(name: str) -> datetime | None:
    """A time, in UTC where it names no zone; None where it is missing or empty.

    Raises:
        BadRequest: it is no time.
    """
    value = text(name)
    if value is None:
        return None
    try:
        read = datetime.fromisoformat(value)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} is no time: write it as 2026-03-09T14:30 (UTC).") from None


def choice(name: str, allowed: tuple[str, ...]) -> str | None:
    """One of a few words; None where it is missing or empty.

    Raises:
        BadRequest: it is none of them.
    """
    value = text(name)
    if value is not None and value not in allowed:
        raise BadRequest(f"{name} is none of {', '.join(allowed)}.")
    return value


def place() -> tuple[datetime | None, str] | None:
    """The place at which the page before this one ended, as `place_of` wrote it; None on the first page.

    Raises:
        BadRequest: it is none.
    """
    at, _, key = request.args.get("before", "").partition(" ")
    if not at:
        return None
    try:
        read = None if at == "-" else datetime.fromisoformat(at)
    except ValueError:
        raise BadRequest(NO_PLACE) from None
    if "\0" in key or (read and read.tzinfo is None):
        raise BadRequest(NO_PLACE)
    return read, key


def timed_place() -> tuple[datetime, str] | None:
    """The place as `place` reads it, in a list in which each row has a time.

    Raises:
        BadRequest: it is none, or has no time.
    """
    found = place()
    if found is None:
        return None
    at, key = found
    if at is None:
        raise BadRequest(NO_PLACE)
    return at, key


def place_of(at: datetime | None, key: str) -> str:
    """The place of a row, for the link to the next page."""
    return f"{at.astimezone(UTC).isoformat() if at else '-'} {key}"
