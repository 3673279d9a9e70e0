"""Options that take a time: ISO 8601, or how long ago it was, such as `1h`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_AGO = re.compile(r"([0-9]{1,9})(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
TIME_HELP = "a time in UTC, such as 2026-01-31 or 2026-01-31T10:30:00, or how long ago: 90s, 15m, 1h, 2d"


def parse_ago(text: str, now: datetime) -> datetime | None:
    """The time some duration before `now`; None where the text is no duration.

    Raises:
        OverflowError: no calendar has that time.
    """
    found = _AGO.fullmatch(text.strip().lower())
    return now - timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None


class Moment(click.ParamType[datetime]):
    """A time with its zone; one that is given without a zone is in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time that a text means."""
        if isinstance(value, datetime):
            return value
        try:
            moment = parse_ago(value, datetime.now(UTC)) or datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: give {TIME_HELP}", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class MomentText(click.ParamType[str]):
    """A time in ISO 8601; where `or_id`, also the id of a change, as it is given."""

    name = "time"

    def __init__(self, *, or_id: bool = False) -> None:
        self._or_id = or_id

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The id, or the time that a text means."""
        text = str(value)
        return text if self._or_id and text.isdigit() else Moment().convert(text, param, ctx).isoformat()
