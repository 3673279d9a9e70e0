"""The webhook endpoint: verify a delivery, store it, wake a worker.

It needs Postgres only while Redis is unavailable.

Why: `docs/decisions/0034-less-code-in-web.md`.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from flask import Response, request

from service.broker.counters import DELIVERIES
from service.broker.inbox import Delivery
from service.broker.jobs import Job
from service.errors import ApiError, RedisUnavailable, Unavailable
from service.upstream.fields import is_valid_model_id
from service.upstream.login_links import without_login_links
from service.upstream.payloads import decode_webhook, event_id_of
from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, Verdict, has_valid_signature_format, verify
from service.web.errors import error_response
from service.web.request_body import check_body_headers, read_body

if TYPE_CHECKING:
    from service.broker.counters import Counters
    from service.broker.jobs import JobQueue
    from service.broker.stale_models import StaleModels
    from service.config import Settings
    from service.web.delivery_store import DeliveryStore

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 256 * 1024
# The vendor's own next try comes after five minutes; other clients may try sooner.
RETRY_AFTER_SECONDS = 30
# The model of a delivery that is older needs no GET: every pull has read it since.
STALE_NOTE_MAX_AGE_SECONDS = 24 * 3600


class WebhookEndpoint:
    """The endpoint of deliveries."""

    def __init__(
        self,
        delivery_store: DeliveryStore,
        stale_models: StaleModels,
        queue: JobQueue,
        settings: Settings,
        counters: Counters,
    ) -> None:
        self._delivery_store = delivery_store
        self._stale_models = stale_models
        self._queue = queue
        self._counters = counters
        self._secrets = settings.webhook_secrets
        self._tolerance = settings.webhook_tolerance_seconds

    def receive(self) -> Response:
        """Respond to a delivery."""
        try:
            return self._accept()
        except ApiError as refusal:
            self._counters.add(DELIVERIES, refusal.label)
            if refusal.status == 503:
                reason = str(refusal.__cause__ or refusal)
                log.error("delivery", answer=refusal.label, status=refusal.status, reason=reason)
            else:
                log.info("delivery", answer=refusal.label, status=refusal.status)
            return error_response(refusal)

    def _accept(self) -> Response:
        """Accept a delivery: size, content type, signature and form are checked in this order.

        What the headers alone can show is checked before the body is read: a body takes memory.

        Raises:
            ApiError: it is refused, or can be stored nowhere now.
        """
        if not self._secrets:
            raise _unavailable("the webhook endpoint is closed: HEADSHOTPRO_WEBHOOK_SECRET is missing")
        now = time.time()
        check_body_headers(request, MAX_BODY_BYTES)
        # A stale timestamp is refused later: a late delivery that is rightly signed differs from a forged one.
        signature, timestamp = request.headers.get(SIGNATURE_HEADER), request.headers.get(TIMESTAMP_HEADER)
        if not has_valid_signature_format(signature, timestamp):
            raise _signature_rejected("forged")
        body = read_body(request, MAX_BODY_BYTES)
        signed_at = self._verify(signature, timestamp, body, now)
        webhook = decode_webhook(body).value
        event_id = event_id_of(webhook, signed_at, body)
        arrived = datetime.fromtimestamp(now, UTC)
        # The id is that of the body as it was received, and so is stored beside the body without its links.
        delivery = Delivery.arrived(without_login_links(body), signed_at, arrived, event_id)
        try:
            put = self._delivery_store.store(delivery)
        except Unavailable as error:
            raise _unavailable("the event cannot be stored now: send it again") from error
        if put and put.flag_raised:
            self._wake()
        self._counters.add(DELIVERIES, "accepted")
        log.info(
            "delivery",
            answer="accepted",
            status=202,
            kept="inbox" if put else "spool",
            event_id=event_id,
            model_id=webhook.model and webhook.model.object_id,
        )
        document = json.dumps({"status": "accepted", "event": event_id}) + "\n"
        return Response(document, 202, content_type="application/json")

    def _verify(self, signature: str | None, timestamp: str | None, body: bytes, now: float) -> int:
        """The signed timestamp in Unix seconds; one refusal for every way in which a signature can be wrong."""
        verdict = verify(self._secrets, signature, timestamp, body, now=now, tolerance=self._tolerance)
        if verdict is Verdict.FORGED or timestamp is None:
            raise _signature_rejected("forged")
        if verdict is Verdict.STALE:
            if now - int(timestamp) <= STALE_NOTE_MAX_AGE_SECONDS:
                self._note_stale(body)
            raise _signature_rejected("stale")
        return int(timestamp)

    def _note_stale(self, body: bytes) -> None:
        """A rightly signed delivery that is too old is not believed, but a GET reads its model.

        The vendor may sign retries with the time of the first try; their news must not be lost.
        """
        try:
            model = decode_webhook(body).value.model
            if model and is_valid_model_id(model.object_id):
                self._stale_models.note(model.object_id)
        except (ApiError, RedisUnavailable) as error:
            log.info("stale_delivery.not_stored", reason=str(error))

    def _wake(self) -> None:
        """The event is safe already: where that fails, the clock wakes a worker a second later."""
        try:
            self._queue.enqueue_flagged(Job.DRAIN)
        except RedisUnavailable as error:
            log.warning("drain.enqueue_failed", reason=str(error))


def _signature_rejected(label: str) -> ApiError:
    """One response for every way in which a signature can be wrong."""
    return ApiError(401, "UNAUTHORIZED", "the signature is missing, wrong or too old", label=label)


def _unavailable(message: str) -> ApiError:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return ApiError(503, "UNAVAILABLE", message, headers=headers, label="unavailable")
