"""`Idempotency-Key`: a create that is sent again within 24 hours is done once.

The key is claimed by a conditional insert before anything is sent. The state of a key decides about a request:

- new: it creates. The model and the key's result are written in one transaction.
- in use by another request: 409. A claim is leased, so that a process that died blocks the key for a short time.
- done: the same model again. `signedUrl` is not stored, so a single GET reads it.
- begun, and the result is not known (no response, or the process died): it creates again. The upstream refuses that
  where the address has its model already; then the model that was created since the key came is the result.
- used with another body: 422.

A create that the upstream refused has made nothing: its key is new again.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import structlog
from msgspec import UNSET

from service.api.schemas import CreatedBody
from service.api.writes import UPSTREAM_DEADLINE_SECONDS, RelayedResponse, UpstreamWriter, is_in_doubt
from service.errors import ApiError, ModelNotFound, RedisUnavailable, UpstreamError, UpstreamRejected
from service.model_fields import DELETED
from service.storage import api_queries, idempotency
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.api.schemas import CreateModelBody
    from service.storage.audit import Actor
    from service.storage.idempotency import IdempotencyClaim, IdempotencyKey
    from service.upstream.payloads import CreatedModel

log = structlog.get_logger(__name__)

# Longer than a create with all its waits takes.
LEASE_SECONDS = 60.0
RETRY_AFTER_SECONDS = 2
# A model of the same create may be this much older than its key: two clocks differ.
MAX_CLOCK_SKEW = timedelta(seconds=10)
# New models are `onboarding`; this many of them are searched for a model whose id is not known, page by page. Beyond
# either bound it counts as not made: the upstream's refusal is the response.
MAX_PLACES = 1000
MAX_PAGES = 20
PAGE_SIZE = 200


@dataclass(frozen=True, slots=True)
class IdempotentCreates:
    """Creates that are done once."""

    writer: UpstreamWriter

    def create(self, wanted: CreateModelBody, idempotency_key: IdempotencyKey, actor: Actor) -> RelayedResponse:
        """Make a model unless this key has made it already.

        Raises:
            ApiError: 409 while another request with the key runs; 422 if the key came with another body.
            UpstreamError: the upstream's error, or no response arrived.
            RedisUnavailable: the Redis of the request budget is unavailable.
            PostgresUnavailable: Postgres is unavailable; nothing was done.
        """
        holder = secrets.token_hex(8)
        fingerprint = hashlib.sha256(msgspec.json.encode(wanted)).hexdigest()
        with transaction(self.writer.engine) as connection:
            claim = idempotency.claim(connection, idempotency_key, fingerprint, holder, LEASE_SECONDS)
        if claim is not None and claim.fingerprint != fingerprint:
            raise ApiError(422, "INVALID_REQUEST", "This Idempotency-Key came with another body before")
        if claim is not None and claim.model_id is not None:
            return self._repeated_response(claim.model_id, claim.status)
        if claim is None or claim.holder != holder:
            message = "Another request with this Idempotency-Key is being worked on"
            raise ApiError(409, "CONFLICT", message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
        return self._create(wanted, idempotency_key, claim, actor)

    def _create(
        self, wanted: CreateModelBody, idempotency_key: IdempotencyKey, claim: IdempotencyClaim, actor: Actor
    ) -> RelayedResponse:
        """Send it, and write the result into the key's row."""

        def record(connection: Connection, made: CreatedModel) -> None:
            status = None if made.status is UNSET else made.status
            idempotency.finish(connection, idempotency_key, claim.holder, made.model_id, status)

        try:
            return self.writer.create(wanted, actor, record)
        except UpstreamRejected:
            made = self._model_of_earlier_try(wanted, claim) if claim.attempts > 1 else None
            with transaction(self.writer.engine) as connection:
                if made is None:
                    idempotency.release(connection, idempotency_key, claim.holder)
                else:
                    idempotency.finish(connection, idempotency_key, claim.holder, made, None)
            if made is None:
                raise
            return self._repeated_response(made, None)
        except (UpstreamError, RedisUnavailable) as error:
            doubtful = claim.attempts > 1 or (isinstance(error, UpstreamError) and is_in_doubt(error))
            settle = idempotency.mark_unknown if doubtful else idempotency.release
            with transaction(self.writer.engine) as connection:
                settle(connection, idempotency_key, claim.holder)
            raise

    def _repeated_response(self, model_id: str, status: str | None) -> RelayedResponse:
        """The response to a create that was done before, with a new login link."""
        try:
            response = self.writer.client.get_model(
                model_id, priority=Priority.REFETCH, max_wait=UPSTREAM_DEADLINE_SECONDS
            )
            shown, link = response.body.status, response.body.signed_url
        except ModelNotFound:
            # It was made, and deleted since.
            shown, link = DELETED, UNSET
        document = CreatedBody(model_id=model_id, status=status or shown, signed_url=link)
        return RelayedResponse(200, msgspec.json.encode(document), replayed=True)

    def _model_of_earlier_try(self, wanted: CreateModelBody, claim: IdempotencyClaim) -> str | None:
        """The model that an earlier try of this create has made, where it has."""
        since = claim.claimed_at - MAX_CLOCK_SKEW
        with transaction(self.writer.engine) as connection:
            known = api_queries.newest_with_email(connection, wanted.email, since)
        return known or self._find_upstream(wanted.email.lower(), since)

    def _find_upstream(self, email: str, since: datetime) -> str | None:
        """Search the upstream's list, because the mirror may not know the address yet: webhooks contain none."""
        offset = 0
        for _ in range(MAX_PAGES):
            response = self.writer.client.list_models(
                limit=PAGE_SIZE,
                offset=offset,
                status="onboarding",
                priority=Priority.REFETCH,
                max_wait=UPSTREAM_DEADLINE_SECONDS,
            )
            for model in response.body.models:
                theirs, created = model.email, model.created_at
                is_theirs = isinstance(theirs, str) and theirs.lower() == email
                if is_theirs and isinstance(created, datetime) and created >= since:
                    return model.id
            # The upstream may make its pages shorter.
            offset += len(response.body.models)
            if offset >= MAX_PLACES or not (response.body.pagination.has_more and response.body.models):
                break
        return None
