"""Requests that go to the upstream: create, delete, and a fresh read of one model. Each response is merged at once.

Before anything is sent, Postgres is checked, so that nothing is done upstream that cannot be merged. Where Postgres
becomes unavailable in between, the caller still gets the upstream's response; the webhook, a refetch request or the
next pull updates the mirror. Where no response arrives, a refetch request or a hot pull finds out what was done.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from service.api.schemas import DeletedBody
from service.broker.jobs import Job
from service.errors import (
    ActInFlight,
    ApiError,
    PostgresUnavailable,
    RedisUnavailable,
    Stopping,
    Throttled,
    Unavailable,
    UpstreamError,
    UpstreamRejected,
)
from service.mirror.apply import apply, merge_single
from service.mirror.observe import from_absence, from_created
from service.mirror.refetch import request_if_alive
from service.mirror.set_aside import refusal_of
from service.storage import audit
from service.storage.audit import Act
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from service.api.schemas import CreateModelBody
    from service.broker.jobs import JobQueue
    from service.broker.stale_models import StaleModels
    from service.storage.audit import Actor
    from service.upstream.client import UpstreamClient
    from service.upstream.payloads import CreatedModel, DeletedModel
    from service.upstream.responses import UpstreamResponse

log = structlog.get_logger(__name__)

# How long a caller waits for the budget and for tries after faults, in seconds.
UPSTREAM_DEADLINE_SECONDS = 5.0
# After this another caller's delete may have ended.
RETRY_AFTER_SECONDS = 1
# A GET of a model that was just made is worth less: without it a refetch request reads the rest.
FOLLOW_UP_DEADLINE_SECONDS = 1.0
MICROSECOND = timedelta(microseconds=1)


class RelayedResponse(NamedTuple):
    """The response to the caller.

    Attributes:
        status: the HTTP status.
        body: the upstream's own bytes; they may hold a login link, and are neither kept nor logged.
        replayed: the create was done before, under the same idempotency key.
        act_row_id: the row of a delete in the audit log.
    """

    status: int
    body: bytes
    replayed: bool = False
    act_row_id: int = 0


@dataclass(frozen=True, slots=True)
class UpstreamWriter:
    """Writes through one client.

    Every call raises what the client raises, and `PostgresUnavailable` before anything was sent.

    Attributes:
        stale_models: keeps a refetch request while Postgres cannot take it.
    """

    engine: Engine
    client: UpstreamClient
    queue: JobQueue
    stale_models: StaleModels

    def create(
        self,
        wanted: CreateModelBody,
        actor: Actor,
        record: Callable[[Connection, CreatedModel], None] = lambda _connection, _made: None,
    ) -> RelayedResponse:
        """Make a model, and merge it; `record` writes the rows of the caller in the transaction that merges it."""
        with audit.recorded(self.engine, Act(actor, "model.create")) as act:
            try:
                response = self.client.create_model(
                    wanted.email,
                    wanted.team_id,
                    wanted.is_development,
                    priority=Priority.REFETCH,
                    max_wait=UPSTREAM_DEADLINE_SECONDS,
                )
            except UpstreamError as error:
                if is_in_doubt(error):
                    # A model may have been made: its id is not known, so no GET can read it.
                    with suppress(Unavailable):
                        self.queue.enqueue(Job.PULL_HOT_NOW)
                raise
            act.target = response.body.model_id
        self._merge_created(wanted, response, record)
        return RelayedResponse(response.status, response.raw)

    def delete(
        self, model_id: str, actor: Actor, check: Callable[[Connection], object] = lambda _connection: None
    ) -> RelayedResponse:
        """Delete a model, and make it a tombstone as of the upstream's response; see `audit.recorded` for `check`.

        Raises:
            ApiError: 409 while another caller deletes it.
        """
        try:
            with audit.recorded(self.engine, Act(actor, "model.delete", model_id), alone="deleted", check=check) as act:
                response = self._delete(model_id)
        except ActInFlight as error:
            raise ApiError(409, "CONFLICT", str(error), headers={"Retry-After": str(RETRY_AFTER_SECONDS)}) from None
        log.info("api.deleted", model_id=model_id)
        if response.raw:
            return RelayedResponse(response.status, response.raw, act_row_id=act.row_id)
        # A 204, or a deletion that an earlier try had done: the caller gets the body that the vendor documents.
        deleted = DeletedBody(message="Model deleted successfully", model_id=model_id)
        return RelayedResponse(200, msgspec.json.encode(deleted), act_row_id=act.row_id)

    def _delete(self, model_id: str) -> UpstreamResponse[DeletedModel]:
        """Delete it, and merge that: the next caller to whom the act seems over finds the tombstone."""
        try:
            response = self.client.delete_model(model_id, priority=Priority.REFETCH, max_wait=UPSTREAM_DEADLINE_SECONDS)
        except (UpstreamError, Stopping) as error:
            # Done or not, or long ago: a GET shows which.
            if is_in_doubt(error) or isinstance(error, UpstreamRejected):
                self._request_refetch(model_id)
            raise
        try:
            with transaction(self.engine) as connection:
                apply(connection, [from_absence(model_id, response.received_at)], "api")
        except Exception as error:  # noqa: BLE001 - it is done upstream, so the caller gets the response
            log.error("api.delete.not_merged", model_id=model_id, reason=type(error).__name__)
            self._note_stale(model_id)
        return response

    def read_fresh(self, model_id: str) -> RelayedResponse:
        """Read one model from the upstream and merge it; the caller gets the response, written or not."""
        try:
            response = self.client.get_model(model_id, priority=Priority.REFETCH, max_wait=UPSTREAM_DEADLINE_SECONDS)
        except UpstreamRejected:
            # After a 404 about a model that the mirror shows, the refetch decides, and then the next pull.
            self._request_refetch(model_id)
            raise
        try:
            with transaction(self.engine) as connection:
                merge_single(connection, model_id, response, "refetch", settles_before=response.sent_at)
        except Exception as error:  # noqa: BLE001 - what the caller wanted is there
            log.error("api.fresh_read.not_merged", model_id=model_id, reason=refusal_of(error))
        return RelayedResponse(response.status, response.raw)

    def _merge_created(
        self,
        wanted: CreateModelBody,
        response: UpstreamResponse[CreatedModel],
        record: Callable[[Connection, CreatedModel], None],
    ) -> None:
        """First merge what the create itself shows, with a refetch request for the rest; then a GET, if it is quick."""
        made = response.body
        seen = from_created(
            made,
            wanted.email,
            wanted.team_id,
            is_development=wanted.is_development,
            sent_at=response.sent_at,
            received_at=response.received_at,
        )
        try:
            with transaction(self.engine) as connection:
                apply(connection, [seen], "api", record=lambda _applied: record(connection, made))
            single = self.client.get_model(
                made.model_id, priority=Priority.REFETCH, max_wait=FOLLOW_UP_DEADLINE_SECONDS
            )
            # It was sent after the response to the create, however close their times on the upstream's clock are.
            single = replace(single, sent_at=max(single.sent_at, response.sent_at + MICROSECOND))
            settles = response.received_at + MICROSECOND
            with transaction(self.engine) as connection:
                merge_single(connection, made.model_id, single, "api", settles_before=settles)
        except (UpstreamError, RedisUnavailable) as error:
            log.info("api.create.not_read", model_id=made.model_id, reason=str(error))
        except Exception as error:  # noqa: BLE001 - it is done upstream, so the caller gets the response
            log.error("api.create.not_merged", model_id=made.model_id, reason=type(error).__name__)
            self._note_stale(made.model_id)
        log.info("api.created", model_id=made.model_id)

    def _request_refetch(self, model_id: str) -> None:
        try:
            request_if_alive(self.engine, model_id)
        except PostgresUnavailable:
            self._note_stale(model_id)

    def _note_stale(self, model_id: str) -> None:
        """Keep a refetch request in Redis; without Redis, the webhook or the next pull repairs the row."""
        with suppress(RedisUnavailable):
            self.stale_models.note(model_id)


def is_in_doubt(error: UpstreamError | Stopping) -> bool:
    """Whether the upstream may have done what was requested, as far as the error shows."""
    return not isinstance(error, (UpstreamRejected, Throttled))
