"""What goes through to the upstream: create, delete, and a look at one model. What it answers is merged at once.

Postgres is asked first, so that nothing is done upstream that could not be merged. Where it goes away in between, the
caller still gets the upstream's answer, for it is true; the webhook, a question or the next pull brings the mirror
up to it. Where the upstream does not answer, nobody knows what it did: a question or a hot pull finds out.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from service.api.schemas import Deleted
from service.broker.jobs import Job
from service.errors import (
    InboxUnavailable,
    StorageUnavailable,
    Throttled,
    Unavailable,
    UpstreamError,
    UpstreamRejected,
)
from service.mirror import set_aside
from service.mirror.apply import SETTLING, Sighting, apply
from service.mirror.merge import DELETED
from service.mirror.observe import from_absence, from_created, from_single
from service.storage import models, refetches
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from service.api.schemas import SignUp
    from service.broker.inbox import StaleModels
    from service.broker.jobs import JobQueue
    from service.upstream.client import UpstreamClient
    from service.upstream.payloads import CreatedModel, DetailedModel
    from service.upstream.responses import Answer

log = structlog.get_logger(__name__)

# How long a caller waits for the budget and for tries after faults, in seconds.
PATIENCE = 5.0
# The look at a model that was just made is worth less: without it a question brings the rest.
SHORT_PATIENCE = 1.0
MICROSECOND = timedelta(microseconds=1)


class Answered(NamedTuple):
    """What the caller gets.

    Attributes:
        status: the HTTP status.
        body: the upstream's own bytes; they may hold a login link, and are neither kept nor logged.
        replayed: it was done before, under the same idempotency key.
    """

    status: int
    body: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes through one client.

    Every call raises what the client raises, and `StorageUnavailable` before anything was done.

    Attributes:
        engine: the mirror's Postgres.
        client: the upstream.
        queue: where a hot pull is asked for.
        stale_models: where a question waits while Postgres cannot take it.
    """

    engine: Engine
    client: UpstreamClient
    queue: JobQueue
    stale_models: StaleModels

    def create(
        self, wanted: SignUp, record: Callable[[Connection, CreatedModel], None] = lambda _connection, _made: None
    ) -> Answered:
        """Make a model, and merge it.

        Args:
            wanted: who it is for.
            record: writes the caller's own rows in the transaction that merges it.
        """
        self._require_storage()
        try:
            answer = self.client.create_model(
                wanted.email,
                wanted.team_id,
                wanted.is_development,
                priority=Priority.REFETCH,
                patience=PATIENCE,
            )
        except UpstreamError as error:
            if is_in_doubt(error):
                self._pull_soon()
            raise
        self._merge_created(wanted, answer, record)
        return Answered(answer.status, answer.raw)

    def delete(self, model_id: str) -> Answered:
        """Delete a model, and bury it in the mirror as of the upstream's answer."""
        self._require_storage()
        try:
            answer = self.client.delete_model(model_id, priority=Priority.REFETCH, patience=PATIENCE)
        except UpstreamError as error:
            # Done or not, or long ago: a GET tells.
            if is_in_doubt(error) or isinstance(error, UpstreamRejected):
                self._ask_about(model_id)
            raise
        try:
            with transaction(self.engine) as connection:
                apply(connection, [Sighting(from_absence(model_id, answer.answered_at), "api")])
        except Exception as error:  # noqa: BLE001 - it is done upstream: whatever the merge meets, the caller is told so
            log.error("api.delete.not_merged", model_id=model_id, reason=type(error).__name__)
            self._note(model_id)
        log.info("api.deleted", model_id=model_id)
        if answer.raw:
            return Answered(answer.status, answer.raw)
        # A 204, or a deletion that an earlier try had done: the caller gets the body that the vendor documents.
        told = Deleted(message="Model deleted successfully", model_id=model_id)
        return Answered(200, msgspec.json.encode(told))

    def look(self, model_id: str) -> Answered:
        """Ask the upstream about one model, and merge what it tells; without Postgres it is told all the same."""
        try:
            answer = self.client.get_model(model_id, priority=Priority.REFETCH, patience=PATIENCE)
        except UpstreamRejected:
            # A 404 about a model that the mirror shows is a question for the refetch, and then for the next pull.
            self._ask_about(model_id)
            raise
        try:
            self._merge_single(model_id, answer, answer.sent_at, "refetch")
        except StorageUnavailable as error:
            log.warning("api.look.not_merged", model_id=model_id, reason=str(error))
        return Answered(answer.status, answer.raw)

    def _require_storage(self) -> None:
        """Raises StorageUnavailable where Postgres is gone, before anything is sent."""
        with transaction(self.engine):
            pass

    def _merge_created(
        self, wanted: SignUp, answer: Answer[CreatedModel], record: Callable[[Connection, CreatedModel], None]
    ) -> None:
        """First what is known for sure, with a question for the rest; then the rest, where a GET tells it at once."""
        made = answer.body
        seen = from_created(
            made,
            wanted.email,
            wanted.team_id,
            is_development=wanted.is_development,
            sent_at=answer.sent_at,
            answered_at=answer.answered_at,
        )
        try:
            with transaction(self.engine) as connection:
                apply(connection, [Sighting(seen, "api")], record=lambda _applied: record(connection, made))
            single = self.client.get_model(made.model_id, priority=Priority.REFETCH, patience=SHORT_PATIENCE)
            # It was sent after the create was answered, however close their times on the vendor's clock are.
            single = replace(single, sent_at=max(single.sent_at, answer.sent_at + MICROSECOND))
            self._merge_single(made.model_id, single, answer.answered_at + MICROSECOND, "api")
        except (UpstreamError, InboxUnavailable) as error:
            log.info("api.create.not_read", model_id=made.model_id, reason=str(error))
        except Exception as error:  # noqa: BLE001 - it is done upstream: whatever the merge meets, the caller is told so
            log.error("api.create.not_merged", model_id=made.model_id, reason=type(error).__name__)
            self._note(made.model_id)
        log.info("api.created", model_id=made.model_id)

    def _merge_single(self, model_id: str, answer: Answer[DetailedModel], settles: datetime, source: str) -> None:
        """Merge a single GET, which answers the questions about its model that are older than `settles`."""
        seen = from_single(model_id, answer.body, answer.sent_at, answer.answered_at)
        with transaction(self.engine) as connection:
            apply(connection, [Sighting(seen, source)])
            set_aside.note_single(connection, model_id, answer)
            refetches.settle(connection, [model_id], settles)

    def _ask_about(self, model_id: str) -> None:
        """Let a GET settle what became of a model that the mirror shows alive."""
        now = datetime.now(UTC)
        try:
            with transaction(self.engine) as connection:
                row = models.read(connection, [model_id]).get(model_id)
                if row is not None and row["status"] != DELETED:
                    refetches.ask(connection, [refetches.Wish(model_id, now, "dispute", now + SETTLING)])
        except StorageUnavailable:
            self._note(model_id)

    def _note(self, model_id: str) -> None:
        """Leave a question in Redis; where that is gone too, the webhook or the next pull tells."""
        with suppress(InboxUnavailable):
            self.stale_models.note(model_id)

    def _pull_soon(self) -> None:
        """Let a hot pull find a model that may have been made: its id is not known, so no GET can."""
        with suppress(Unavailable):
            self.queue.ask(Job.PULL_HOT_NOW)


def is_in_doubt(error: UpstreamError) -> bool:
    """Whether the upstream may have done what was asked, for all that the error tells."""
    return not isinstance(error, (UpstreamRejected, Throttled))
