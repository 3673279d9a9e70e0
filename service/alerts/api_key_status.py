"""Whether the vendor takes our key, and whether its clock agrees with ours: stored in Postgres from the responses.

There are many responses, and this changes hardly ever. So each process writes when it changes, and otherwise no more
often than every `RESAVE_SECONDS`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.errors import MirrorError
from service.storage import alert_facts
from service.storage.database import transaction
from service.upstream import headers
from service.upstream.client import MODEL_ROUTE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from sqlalchemy import Connection, Engine

log = structlog.get_logger(__name__)

KEY_REFUSED_STATUSES = (401, 403)
RESAVE_SECONDS = 30.0
# Several machines may respond, and the clock of one be off: that is not over because another one's is right.
SKEW_CLEAR_SECONDS = 60.0


class _SavedFlag:
    """A flag, as this process stored it last."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._flag: bool | None = None
        self._next_save = 0.0

    def save(self, write: Callable[[Connection], None], *, flag: bool) -> None:
        """Write it, unless it was written a moment ago."""
        if flag == self._flag and monotonic() < self._next_save:
            return
        try:
            with transaction(self._engine) as connection:
                write(connection)
        except MirrorError as error:
            # The next response stores it.
            log.warning("api_key_status.not_saved", error=str(error))
        else:
            self._flag, self._next_save = flag, monotonic() + RESAVE_SECONDS


class ApiKeyStatus:
    """The last responses to one process: whether the key was accepted, and the clock."""

    def __init__(self, engine: Engine) -> None:
        self._refused = _SavedFlag(engine)
        self._skewed = _SavedFlag(engine)
        self._skewed_until = 0.0

    def observe(self, route: str, status: int | str) -> None:
        """Take one try of a request; only responses of the vendor's own show anything of the key.

        A refusal to create or delete may be meant for that alone, so only reading counts. So may a 403 to the GET of
        one model.

        Args:
            route: method and path of the request.
            status: the HTTP status of the response; `unreachable` without one.
        """
        if not route.startswith("GET ") or not isinstance(status, int) or status >= 500 or status == 429:
            return
        if status == 403 and route.endswith(MODEL_ROUTE):
            return
        refused = status in KEY_REFUSED_STATUSES
        self._refused.save(
            lambda connection: alert_facts.record_key_response(connection, status, refused=refused), flag=refused
        )

    def observe_clock(self, skew: timedelta | None) -> None:
        """One response's clock.

        Args:
            skew: its clock minus the local one; None where the response has no `Date`, which is ignored.
        """
        if skew is None:
            return
        now = monotonic()
        skewed = abs(skew) > headers.MAX_SKEW
        if skewed:
            self._skewed_until = now + SKEW_CLEAR_SECONDS
        elif now < self._skewed_until:
            return
        seconds = round(skew.total_seconds(), 1) if skewed else None
        self._skewed.save(lambda connection: alert_facts.record_clock_skew(connection, seconds), flag=skewed)
