"""What `up` shows: lines that stay, and one that is rewritten each second to show the mirror moving."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Self, TextIO

from service.alerts.problems import verdict
from service.broker import inbox
from service.broker.client import connect_redis
from service.errors import Unavailable
from service.plain_text import escape_controls
from service.status import StatusReader
from service.storage import database, status_report

if TYPE_CHECKING:
    from service.broker.inbox import InboxDepth
    from service.config import Settings
    from service.storage.status_report import MirrorSnapshot

CLEAR_LINE = "\r\x1b[2K"
# Until then processes may still be on their way to their first heartbeat.
START_SECONDS = 20.0


class Screen:
    """A terminal, where the status is one line that is rewritten, or anything else, where it is a line each time.

    Args:
        out: where it is printed.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._write(f"{CLEAR_LINE if self._terminal else ''}{escape_controls(line)}\n")

    def row(self, name: str, words: str) -> None:
        """Print a line of the table of what runs where."""
        self.say(f"  {name:<10} {words}")

    def status(self, line: str) -> None:
        """Show the status in place of the last one."""
        line = escape_controls(line)
        if self._terminal:
            width = shutil.get_terminal_size().columns
            self._write(f"{CLEAR_LINE}{line[: width - 1]}")
        else:
            self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class StatusLine:
    """Reads the state of the mirror from Postgres and Redis.

    Args:
        settings: say where both are.
    """

    def __init__(self, settings: Settings) -> None:
        self._status = StatusReader(settings)
        self._began = monotonic()
        self._engine = database.connect(settings.postgres_url, pool_size=1)
        self._redis = connect_redis(settings.redis)
        self._inbox = inbox.Inbox(self._redis)
        self._since: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._status.close()
        self._redis.close()
        self._engine.dispose()

    def line(self) -> str:
        """The status line of this moment."""
        try:
            words = f"{self._problems()}{self._read()}"
        except Unavailable as error:
            words = str(error)
        return f"{datetime.now(UTC).astimezone():%H:%M:%S}  {words}"

    def _problems(self) -> str:
        """What `status` reports as a problem; what `up` has just begun to start is none."""
        if monotonic() - self._began < START_SECONDS:
            return ""
        found = self._status.read(figures=False).problems
        return f"{verdict(found, None)} | " if found else ""

    def _read(self) -> str:
        depth = self._inbox.depth()
        with database.transaction(self._engine) as connection:
            if self._since is None:
                # Events carry times of Postgres' clock.
                _version, self._since = status_report.server_info(connection)
            applied = status_report.events_processed(connection, self._since)
            return describe(applied, status_report.snapshot(connection), depth)


def describe(applied: int, snapshot: MirrorSnapshot, depth: InboxDepth) -> str:
    """The status line in words.

    Args:
        applied: events that were applied since the start.
        snapshot: the mirror.
        depth: the inbox; the age of its oldest event is the lag.
    """
    most_first = sorted(snapshot.models.items(), key=lambda item: (-item[1], item[0]))
    statuses = ", ".join(f"{status} {count}" for status, count in most_first)
    age = snapshot.pull_age_seconds
    waiting = depth.events + snapshot.spooled_events
    lag = max(depth.oldest_seconds or 0.0, snapshot.oldest_spooled_seconds or 0.0)
    return (
        f"{applied} events applied, {waiting} waiting, lag {lag:.1f} s | "
        f"{sum(snapshot.models.values())} models{': ' if statuses else ''}{statuses} | "
        f"{'not pulled yet' if age is None else f'pulled {age:.0f} s ago'}"
    )
