"""The webhook door: verify, decode, keep it safe, wake a worker. Nothing else, and no Postgres where Redis takes it.

It is a WSGI application of its own in front of Flask's: finding a view, the contexts around it and an answer's way out
took as long there as all that the endpoint does.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from flask import Response
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_content_length, get_input_stream

from service.broker.counters import DELIVERIES
from service.broker.inbox import Delivery
from service.broker.jobs import Job
from service.errors import ApiError, RedisUnavailable, Unavailable
from service.log import raised_at
from service.upstream.fields import is_valid_model_id
from service.upstream.login_links import without_login_links
from service.upstream.payloads import decode_envelope, event_id_of
from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, Verdict, has_valid_signature_format, verify
from service.web.errors import error_response, from_http_exception

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from service.broker.counters import Counters
    from service.broker.jobs import JobQueue
    from service.broker.stale_models import StaleModels
    from service.config import Settings
    from service.web.delivery_store import DeliveryStore

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 256 * 1024
# The vendor's own next try comes after five minutes; a client of ours may come sooner.
RETRY_AFTER_SECONDS = 30
ALLOW = {"Allow": "POST"}
# About the model of a delivery that is older, the upstream is not asked: every pull has read it since.
STALE_NOTE_MAX_AGE_SECONDS = 24 * 3600


class WebhookEndpoint:
    """Where deliveries come in.

    Args:
        keeper: what makes them safe; a 202 is sent only after that.
        stale_models: where models are noted whose deliveries came too late.
        queue: where a worker is woken.
        settings: the secrets and the tolerance.
        counters: where answers are counted.
    """

    def __init__(
        self, keeper: DeliveryStore, stale_models: StaleModels, queue: JobQueue, settings: Settings, counters: Counters
    ) -> None:
        self._delivery_store = keeper
        self._stale_models = stale_models
        self._queue = queue
        self._counters = counters
        self._secrets = settings.webhook_secrets
        self._tolerance = settings.webhook_tolerance_seconds

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Respond to a request for the endpoint's path, as WSGI has it (PEP 3333)."""
        if environ["REQUEST_METHOD"] != "POST":
            response = error_response(ApiError(405, "METHOD_NOT_ALLOWED", "deliveries are posted", headers=ALLOW))
        else:
            response = self._receive(environ)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response(environ, start_response)

    def _receive(self, environ: WSGIEnvironment) -> Response:
        try:
            return self._accept(environ)
        except ApiError as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - the last one who can answer in the form of our errors
            # Its words may hold a person's; where it happened does not.
            log.critical("delivery", answer="failed", status=500, reason=type(error).__name__, at=raised_at(error))
            return error_response(ApiError(500, "ERROR", "the endpoint failed"))
        self._counters.add(DELIVERIES, refusal.label)
        if refusal.status == 503:
            reason = str(refusal.__cause__ or refusal)
            log.error("delivery", answer=refusal.label, status=refusal.status, reason=reason)
        else:
            log.info("delivery", answer=refusal.label, status=refusal.status)
        return error_response(refusal)

    def _accept(self, environ: WSGIEnvironment) -> Response:
        """Accept a delivery: size, content type, signature and form are checked in this order.

        What the headers alone can show is checked before the body is read: a body takes memory.

        Raises:
            ApiError: it is refused, or can be stored nowhere now.
        """
        if not self._secrets:
            raise _unavailable("the webhook endpoint is closed: HEADSHOTPRO_WEBHOOK_SECRET is missing")
        now = time.time()
        _check_headers(environ)
        body = _body(environ)
        timestamp = self._verified_timestamp(environ, body, now)
        envelope = decode_envelope(body)
        event_id = event_id_of(envelope, int(timestamp), body)
        arrived = datetime.fromtimestamp(now, UTC)
        # The id is that of the body as it was received, and so has to travel with what is left of it.
        delivery = Delivery.arrived(without_login_links(body), int(timestamp), arrived, event_id)
        try:
            stored = self._delivery_store.store(delivery)
        except Unavailable as error:
            raise _unavailable("the event cannot be kept now: send it again") from error
        if stored.wake:
            self._wake()
        self._counters.add(DELIVERIES, "accepted")
        log.info(
            "delivery",
            answer="accepted",
            status=202,
            kept=stored.location,
            event_id=event_id,
            model_id=envelope.model_id,
        )
        document = json.dumps({"status": "accepted", "event": event_id}) + "\n"
        return Response(document, 202, content_type="application/json")

    def _verified_timestamp(self, environ: WSGIEnvironment, body: bytes, now: float) -> str:
        """The signed timestamp; one answer for every way in which a signature can be wrong."""
        signature: str | None = environ.get(SIGNATURE)
        timestamp: str | None = environ.get(TIMESTAMP)
        verdict = verify(self._secrets, signature, timestamp, body, now=now, tolerance=self._tolerance)
        if verdict is Verdict.FORGED or timestamp is None:
            raise _signature_rejected("forged")
        if verdict is Verdict.STALE:
            if now - int(timestamp) <= STALE_NOTE_MAX_AGE_SECONDS:
                self._note_stale(body)
            raise _signature_rejected("stale")
        return timestamp

    def _note_stale(self, body: bytes) -> None:
        """A rightly signed delivery that is too old is not believed, but the upstream is asked about its model.

        The vendor may sign retries with the time of the first try; what they tell must not be lost.
        """
        try:
            model_id = decode_envelope(body).model_id
            if model_id and is_valid_model_id(model_id):
                self._stale_models.note(model_id)
        except (ApiError, RedisUnavailable) as error:
            log.info("stale_delivery.not_stored", reason=str(error))

    def _wake(self) -> None:
        """The event is safe already: where waking fails, the clock wakes a worker a second later."""
        try:
            self._queue.enqueue_flagged(Job.DRAIN)
        except RedisUnavailable as error:
            log.warning("drain.enqueue_failed", reason=str(error))


def _check_headers(environ: WSGIEnvironment) -> None:
    """Refuse what can be refused without its body."""
    if (get_content_length(environ) or 0) > MAX_BODY_BYTES:
        raise _body_too_large()
    media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if media_type not in ("application/json", "") and not media_type.endswith("+json"):
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "the body must be application/json", label="media_type")
    # A stale timestamp is no reason: a late delivery that is rightly signed is told from a forged one.
    if not has_valid_signature_format(environ.get(SIGNATURE), environ.get(TIMESTAMP)):
        raise _signature_rejected("forged")


def _body(environ: WSGIEnvironment) -> bytes:
    """The raw body, when it has a fair size and comes whole and in time (`service.web.bodies`)."""
    try:
        # A chunked body has no length beforehand: read one byte more than is allowed, and no further.
        body = get_input_stream(environ).read(MAX_BODY_BYTES + 1)
    except HTTPException as error:
        raise from_http_exception(error, label="unreadable") from None
    if len(body) > MAX_BODY_BYTES:
        raise _body_too_large()
    return body


def _signature_rejected(label: str) -> ApiError:
    """One response for every way in which a signature can be wrong."""
    return ApiError(401, "UNAUTHORIZED", "the signature is missing, wrong or too old", label=label)


def _unavailable(message: str) -> ApiError:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return ApiError(503, "UNAVAILABLE", message, headers=headers, label="unavailable")


def _body_too_large() -> ApiError:
    return ApiError(413, "PAYLOAD_TOO_LARGE", f"a body has {MAX_BODY_BYTES} bytes at most", label="too_large")


def _environ_key(header: str) -> str:
    """The name that WSGI gives to a header."""
    return f"HTTP_{header.upper().replace('-', '_')}"


SIGNATURE, TIMESTAMP = _environ_key(SIGNATURE_HEADER), _environ_key(TIMESTAMP_HEADER)
