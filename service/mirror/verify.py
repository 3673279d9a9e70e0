"""Verify: read the whole upstream and compare it with the mirror, field by field. Changes nothing.

The world goes on while it is compared: what differs at first sight is looked at again after a pause, against a fresh
answer and a fresh row, and only what still differs is reported.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import KeyRejected, ListUnusable, ModelNotFound, Throttled, UpstreamError
from service.mirror.observe import from_list, from_single
from service.mirror.prefetch import walk_page_of
from service.mirror.walk import (
    MAX_WALKS,
    PAGE_SIZE,
    Walk,
    failure_reason,
    follow,
    incomplete_reason,
    next_walk,
    proves_complete,
)
from service.model_fields import DELETED, Source, columns_of
from service.storage import models
from service.storage.database import transaction
from service.storage.erasure import PERSONAL_COLUMNS
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sqlalchemy import Engine

    from service.mirror.merge import Observation
    from service.upstream.client import UpstreamClient
    from service.upstream.records import UnusableRecord

LISTED = columns_of(Source.LIST)
BATCH_SIZE = 500
# Longer than an event takes to its row, and a question to its answer.
SETTLE_SECONDS = 8.0
# One model's GET may fail by itself; where those of as many models in a row fail, the upstream is unavailable.
MAX_CONSECUTIVE_FAILURES = 5

ABSENT = "(not there)"


class Difference(NamedTuple):
    """One field of one model in which mirror and upstream differ; `status` also where one of them has no such model."""

    model_id: str
    field: str
    mirror: Any
    upstream: Any


class Verifier:
    """One comparison.

    Args:
        engine: the mirror's Postgres.
        client: the upstream.
        pause: waits a number of seconds.
        progress: told how many of how many models were read.
        details: compare photo counts and favourites too: a request for each model.

    Attributes:
        set_aside: records and fields of the list and of GETs that could not be used, and so not be compared.
        unanswered: models whose GET failed, so that they could not be compared, with the error.
    """

    def __init__(
        self,
        engine: Engine,
        client: UpstreamClient,
        pause: Callable[[float], None],
        progress: Callable[[int, int], None],
        *,
        details: bool,
    ) -> None:
        self._engine = engine
        self._client = client
        self._pause = pause
        self._progress = progress
        self._details = details
        self.set_aside: set[UnusableRecord] = set()
        self.unanswered: dict[str, str] = {}
        self._failed_in_a_row = 0

    def differences(self) -> list[Difference]:
        """What differs, and still does after a pause.

        Raises:
            UpstreamError: the upstream could not be read.
            ListUnusable: no walk over its list showed all of it.
        """
        suspicious = set(self._suspicious())
        for _ in range(2 if suspicious else 0):
            self._pause(SETTLE_SECONDS)
            found = [difference for model_id in sorted(suspicious) for difference in self._recheck(model_id)]
            suspicious = {difference.model_id for difference in found}
            if not suspicious:
                return []
        return found if suspicious else []

    def _suspicious(self) -> Iterator[str]:
        """Models that differ at first sight, or that only one side has."""
        listed = self._read_list()
        total = len(listed)
        for model_id, row in self._rows():
            shown = listed.pop(model_id, None)
            if shown is None:
                if row["status"] != DELETED:
                    yield model_id
            elif any(True for _ in _compare(row, shown)):
                yield model_id
            elif self._details and row["status"] != DELETED:
                self._progress(total - len(listed), total)
                if self._recheck(model_id):
                    yield model_id
        yield from listed

    def _read_list(self) -> dict[str, Observation]:
        """Every model of the list, by walks like a pull's."""
        shown: dict[str, Observation] = {}
        walk = Walk()
        met: set[str] = set()
        seen: set[str] = set()
        while not (walk.ended and self._is_proved(walk, len(met))):
            if walk.ended:
                walk, met, seen = next_walk(walk), set(), set()
            response = self._client.list_models(limit=PAGE_SIZE, offset=walk.offset, priority=Priority.FULL)
            page = walk_page_of(response, response.sent_at)
            new = sum(1 for model_id in page.ids if model_id not in shown)
            for model in response.body.models:
                shown[model.id] = from_list(model, response.sent_at, response.received_at)
            met.update(page.ids)
            self._set_aside(response.set_aside)
            walk = follow(walk, page, seen, new)
            self._progress(len(shown), page.total)
        return shown

    @staticmethod
    def _is_proved(walk: Walk, met: int) -> bool:
        """Whether the walk showed the whole list; False where another walk has to.

        Raises:
            ListUnusable: no walk will.
        """
        if proves_complete(walk, met) and failure_reason(walk, met) is None:
            return True
        if reason := failure_reason(walk, met) or (incomplete_reason(walk, met) if walk.number == MAX_WALKS else None):
            raise ListUnusable(f"the upstream's list cannot be compared: {reason}")
        return False

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every row of the mirror, some at a time: no transaction stays open while the upstream is asked."""
        above = ""
        while True:
            with transaction(self._engine) as connection:
                some = models.after(connection, above, BATCH_SIZE)
            if not some:
                return
            yield from ((row["id"], row) for row in some)
            above = some[-1]["id"]

    def _recheck(self, model_id: str) -> list[Difference]:
        """One model again: the upstream's own response about it, then the row. Nothing where its GET fails.

        Raises:
            UpstreamError: it is not about this model alone.
        """
        try:
            seen = self._read(model_id)
        except (KeyRejected, Throttled):
            raise
        except UpstreamError as error:
            self._failed_in_a_row += 1
            self.unanswered[model_id] = str(error)
            if self._failed_in_a_row == MAX_CONSECUTIVE_FAILURES:
                raise
            return []
        self._failed_in_a_row = 0
        self.unanswered.pop(model_id, None)
        with transaction(self._engine) as connection:
            row = models.read(connection, [model_id]).get(model_id)
        if row is None:
            return [] if seen is None else [Difference(model_id, "status", ABSENT, seen.fields.get("status"))]
        if seen is None:
            gone = row["status"] == DELETED
            return [] if gone else [Difference(model_id, "status", row["status"], ABSENT)]
        return [difference for difference in _compare(row, seen) if self._details or difference.field in LISTED]

    def _read(self, model_id: str) -> Observation | None:
        """The fields of a model in a GET; None where the upstream does not know the model."""
        try:
            response = self._client.get_model(model_id, priority=Priority.DELETION)
        except ModelNotFound:
            return None
        self._set_aside(response.set_aside)
        return from_single(model_id, response.body, response.sent_at, response.received_at)

    def _set_aside(self, unusable: Iterable[UnusableRecord]) -> None:
        # The place differs where pages overlap.
        self.set_aside.update(one._replace(place=0) for one in unusable)


def _compare(row: Mapping[str, Any], seen: Observation) -> Iterator[Difference]:
    """Every told field that differs and was not erased; of what is deleted on both sides only the life counts."""
    if row["status"] == seen.fields.get("status") == DELETED:
        return
    passed_over = PERSONAL_COLUMNS if row["erased_at"] is not None else ()
    for name, value in seen.fields.items():
        if name not in passed_over and row[name] != value:
            yield Difference(row["id"], name, _in_utc(row[name]), _in_utc(value))


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
