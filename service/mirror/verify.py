"""Verify: read the whole upstream and compare it with the mirror, field by field. Changes nothing.

Models change while they are compared. So a difference is checked again after a pause, with a new response and a new
row, and only what still differs is reported. The first models that differ are read by their own GETs. For thousands,
that would spend the request budget for hours: the others are read again in the list.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import ListUnusable, ModelNotFound, UpstreamError
from service.mirror.codec import LIST_COLUMNS, in_utc
from service.mirror.error_scope import MAX_CONSECUTIVE_FAILURES, ErrorScope, scope_of
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
    pages_of,
    proves_complete,
)
from service.model_fields import DELETED, personal_columns
from service.storage import models
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sqlalchemy import Engine

    from service.mirror.merge import Observation
    from service.upstream.client import UpstreamClient
    from service.upstream.records import UnusableRecord

BATCH_SIZE = 500
# GETs of a second check that are sent at once, and seconds that they take at least: half of the vendor's usual limit is
# left to others. Without a second check only the request budget bounds them: `--details` asks for one GET a model.
GET_BURST = 20
GET_BURST_SECONDS = 8.0
# Longer than an event takes to its row, and a refetch request to its GET.
SETTLE_SECONDS = 8.0

ABSENT = "(not there)"


class Difference(NamedTuple):
    """One field of one model in which mirror and upstream differ; `status` also where one of them has no such model."""

    model_id: str
    field: str
    mirror: Any
    upstream: Any


@dataclass(slots=True)
class Verifier:
    """One comparison.

    Attributes:
        engine: the mirror's Postgres.
        client: the upstream.
        pause: waits a number of seconds; raises `Stopping` where the process has to stop.
        progress: called with the step, how much of it is done, and how much it is.
        details: compare photo counts and favourites too: a request for each model.
        limit: how many of the models that differ are read by their own GETs.
        set_aside: records and fields of the list and of GETs that could not be used, and so not be compared.
        unanswered: models whose GET failed, so that they could not be compared, with the error.
        compared: how many models the list or a live row shows, those in `unanswered` included.
        listed_only: how many of the models that differ were seen in the list alone, twice.
    """

    engine: Engine
    client: UpstreamClient
    pause: Callable[[float], None]
    progress: Callable[[str, int, int], None]
    _: KW_ONLY
    details: bool
    limit: int
    set_aside: set[UnusableRecord] = field(default_factory=set)
    unanswered: dict[str, str] = field(default_factory=dict)
    compared: int = 0
    listed_only: int = 0
    _gets: int = 0
    _burst_began: float = 0.0
    _failed_in_a_row: int = 0

    def differences(self) -> list[Difference]:
        """The differences that remain after a pause.

        Raises:
            UpstreamError: the upstream could not be read.
            ListUnusable: no walk over its list showed all of it.
        """
        suspicious = self._compare_all(details=self.details)
        to_read, others = sorted(suspicious)[: self.limit], sorted(suspicious)[self.limit :]
        found: list[Difference] = []
        if others:
            self.pause(SETTLE_SECONDS)
            again = self._compare_all(details=False)
            for model_id in others:
                # The list has no details: differences that a GET found in them stay.
                details = [difference for difference in suspicious[model_id] if difference.field not in LIST_COLUMNS]
                found += [*again.get(model_id, ()), *details]
        self.listed_only = len({difference.model_id for difference in found})
        return [*self._read_twice(to_read), *found]

    def _read_twice(self, model_ids: list[str]) -> list[Difference]:
        """The differences of some models that remain in two GETs of each, with a pause before each."""
        left, found = model_ids, list[Difference]()
        for number in (1, 2):
            if not left:
                return []
            self.pause(SETTLE_SECONDS)
            found = []
            for done, model_id in enumerate(left, 1):
                self._pace()
                found += self._recheck(model_id)
                self.progress(f"check {number} of what differs", done, len(left))
            left = sorted({difference.model_id for difference in found})
        return found

    def _pace(self) -> None:
        """Before a GET: wait where many were sent within a few seconds, so that the budget is never ours alone."""
        if self._gets % GET_BURST == 0:
            if self._gets and (early := self._burst_began + GET_BURST_SECONDS - monotonic()) > 0:
                self.pause(early)
            self._burst_began = monotonic()
        self._gets += 1

    def _compare_all(self, *, details: bool) -> dict[str, list[Difference]]:
        """The models that differ in the list, or that only one side has, with what differs there."""
        listed = self._read_list()
        self.compared = total = len(listed)
        found = dict[str, list[Difference]]()
        for model_id, row in self._rows():
            shown = listed.pop(model_id, None)
            if shown is None:
                if row["status"] != DELETED:
                    self.compared += 1
                    found[model_id] = [Difference(model_id, "status", row["status"], ABSENT)]
            elif differences := list(_compare(row, shown)):
                found[model_id] = differences
            elif details and row["status"] != DELETED:
                if differences := self._recheck(model_id):
                    found[model_id] = differences
                self.progress("details of models", total - len(listed), total)
        for model_id, shown in listed.items():
            found[model_id] = [Difference(model_id, "status", ABSENT, shown.fields.get("status"))]
        return found

    def _read_list(self) -> dict[str, Observation]:
        """Every model of the list, by walks like a pull's."""
        shown: dict[str, Observation] = {}
        walk = Walk()
        met: set[str] = set()
        seen: set[str] = set()
        while not (walk.ended and self._is_proved(walk, len(met))):
            if walk.ended:
                walk, met, seen = next_walk(walk), set(), set()
            response = self.client.list_models(
                limit=PAGE_SIZE, offset=walk.offset, priority=Priority.FULL, expected=pages_of(walk.total)
            )
            page = walk_page_of(response, response.sent_at)
            new = sum(1 for model_id in page.ids if model_id not in shown)
            for model in response.body.models:
                shown[model.id] = from_list(model, response.sent_at, response.received_at)
            met.update(page.ids)
            self._set_aside(response.set_aside)
            walk = follow(walk, page, seen, new)
            self.progress("models", len(shown), page.total)
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
        """Every row of the mirror, some at a time: no transaction stays open while the upstream is read."""
        above = ""
        while True:
            with transaction(self.engine) as connection:
                some = models.after(connection, above, BATCH_SIZE)
            if not some:
                return
            yield from ((row["id"], row) for row in some)
            above = some[-1]["id"]

    def _recheck(self, model_id: str) -> list[Difference]:
        """Compare one model again: its GET, then its row. No difference where the GET fails.

        Raises:
            UpstreamError: it concerns every model.
        """
        try:
            seen = self._read(model_id)
        except UpstreamError as error:
            if scope_of(error) is ErrorScope.UPSTREAM:
                raise
            self._failed_in_a_row += 1
            self.unanswered[model_id] = str(error)
            if self._failed_in_a_row == MAX_CONSECUTIVE_FAILURES:
                raise
            return []
        self._failed_in_a_row = 0
        self.unanswered.pop(model_id, None)
        with transaction(self.engine) as connection:
            row = models.read(connection, [model_id]).get(model_id)
        if row is None:
            return [] if seen is None else [Difference(model_id, "status", ABSENT, seen.fields.get("status"))]
        if seen is None:
            deleted = row["status"] == DELETED
            return [] if deleted else [Difference(model_id, "status", row["status"], ABSENT)]
        return [difference for difference in _compare(row, seen) if self.details or difference.field in LIST_COLUMNS]

    def _read(self, model_id: str) -> Observation | None:
        """The fields of a model in a GET; None where the upstream does not know the model."""
        try:
            response = self.client.get_model(model_id, priority=Priority.FULL)
        except ModelNotFound:
            return None
        self._set_aside(response.set_aside)
        return from_single(model_id, response.body, response.sent_at, response.received_at)

    def _set_aside(self, unusable: Iterable[UnusableRecord]) -> None:
        # The place differs where pages overlap.
        self.set_aside.update(one._replace(place=0) for one in unusable)


def _compare(row: Mapping[str, Any], seen: Observation) -> Iterator[Difference]:
    """Every observed field that differs and was not erased; none where the model is deleted on both sides."""
    if row["status"] == seen.fields.get("status") == DELETED:
        return
    passed_over = personal_columns() if row["erased_at"] is not None else ()
    for name, value in seen.fields.items():
        if name not in passed_over and row[name] != value:
            yield Difference(row["id"], name, in_utc(row[name]), in_utc(value))
