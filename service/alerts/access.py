"""Whether the vendor takes our key: remembered in Postgres from every answer to a GET, whoever sent it.

Answers come by the hundred; what they say changes hardly ever. So each process writes when its answers change, and
while nothing changes no more than once in a while.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.errors import MirrorError
from service.storage import alert_facts
from service.storage.database import transaction

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = structlog.get_logger(__name__)

REFUSALS = (401, 403)
AGAIN_SECONDS = 30.0


class Access:
    """What one process was answered last.

    Args:
        engine: the mirror's Postgres.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._refused: bool | None = None
        self._next_note = 0.0

    def observe(self, route: str, status: int | str) -> None:
        """One answer, or none: only the vendor's own say anything of the key.

        A refusal to create or delete may be meant for that alone, so only reading counts.

        Args:
            route: method and path of the request.
            status: the HTTP status of the answer; a word where there was none.
        """
        if not route.startswith("GET ") or not isinstance(status, int) or status >= 500 or status == 429:
            return
        refused = status in REFUSALS
        if refused == self._refused and monotonic() < self._next_note:
            return
        try:
            with transaction(self._engine) as connection:
                alert_facts.note_answer(connection, status, refused=refused)
        except MirrorError as error:
            # It is noted with the next answer.
            log.warning("access.not_noted", error=str(error))
        else:
            self._refused, self._next_note = refused, monotonic() + AGAIN_SECONDS
