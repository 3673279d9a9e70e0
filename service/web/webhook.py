"""The webhook door: verify, decode, keep it safe, wake a worker. Nothing else, and no Postgres where Redis takes it.

It is a WSGI application of its own in front of Flask's: finding a view, the contexts around it and an answer's way out
took as long there as all that the endpoint does.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_content_length, get_input_stream

from service.broker.counters import DELIVERIES
from service.broker.inbox import Delivery
from service.broker.jobs import Job
from service.errors import DeliveryRejected, RedisUnavailable, Unavailable
from service.log import raised_at
from service.upstream.fields import is_valid_model_id
from service.upstream.login_links import without_login_links
from service.upstream.payloads import decode_envelope, event_id_of
from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, Verdict, has_valid_signature_format, verify
from service.web.errors import ERROR_CODES, WsgiResponse, wsgi_error

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from service.broker.counters import Counters
    from service.broker.inbox import StaleModels
    from service.broker.jobs import JobQueue
    from service.config import Settings
    from service.web.delivery_store import DeliveryStore

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 256 * 1024
# The vendor's own next try comes after five minutes; a client of ours may come sooner.
RETRY_AFTER_SECONDS = 30
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
        """Answer a request for the endpoint's path, as WSGI has it (PEP 3333)."""
        if environ["REQUEST_METHOD"] != "POST":
            answer = wsgi_error(405, ERROR_CODES[405], "deliveries are posted", Allow="POST")
        elif not self._secrets:
            self._counters.add(DELIVERIES, "unavailable")
            log.error("delivery", answer="unavailable", status=503, reason="HEADSHOTPRO_WEBHOOK_SECRET is missing")
            closed = "the webhook endpoint is closed: no secret is set"
            answer = wsgi_error(503, "UNAVAILABLE", closed, **{"Retry-After": str(RETRY_AFTER_SECONDS)})
        else:
            try:
                answer = self._receive(environ)
            except Exception as error:  # noqa: BLE001 - the last one who can answer in the form of our errors
                # Its words may hold a person's; where it happened does not.
                log.critical("delivery", answer="failed", status=500, reason=type(error).__name__, at=raised_at(error))
                answer = wsgi_error(500, "ERROR", "the endpoint failed")
        return answer.send(environ, start_response)

    def _receive(self, environ: WSGIEnvironment) -> WsgiResponse:
        """Answer a delivery: size, content type, signature and form are checked in this order.

        What the headers alone can show is checked before the body is read: a body takes memory.
        """
        now = time.time()
        try:
            _check_headers(environ)
            body = _body(environ)
            timestamp = self._verified_timestamp(environ, body, now)
            envelope = decode_envelope(body)
            event_id = event_id_of(envelope, int(timestamp), body)
            arrived = datetime.fromtimestamp(now, UTC)
            # The id is that of the body as it was received, and so has to travel with what is left of it.
            delivery = Delivery.arrived(without_login_links(body), int(timestamp), arrived, event_id)
            kept = self._delivery_store.store(delivery)
        except DeliveryRejected as error:
            self._counters.add(DELIVERIES, error.answer)
            log.info("delivery", answer=error.answer, status=error.status)
            return wsgi_error(error.status, error.code, str(error))
        except Unavailable as error:
            self._counters.add(DELIVERIES, "unavailable")
            log.error("delivery", answer="unavailable", status=503, reason=str(error))
            message = "the event cannot be kept now: send it again"
            return wsgi_error(503, "UNAVAILABLE", message, **{"Retry-After": str(RETRY_AFTER_SECONDS)})
        if kept.wake:
            self._wake()
        self._counters.add(DELIVERIES, "accepted")
        log.info(
            "delivery", answer="accepted", status=202, kept=kept.location, event_id=event_id, model_id=envelope.model_id
        )
        return WsgiResponse(202, {"status": "accepted", "event": event_id}, {})

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
        except (DeliveryRejected, RedisUnavailable) as error:
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
        raise DeliveryRejected(415, "UNSUPPORTED_MEDIA_TYPE", "the body must be application/json", "media_type")
    # A stale timestamp is no reason: a late delivery that is rightly signed is told from a forged one.
    if not has_valid_signature_format(environ.get(SIGNATURE), environ.get(TIMESTAMP)):
        raise _signature_rejected("forged")


def _body(environ: WSGIEnvironment) -> bytes:
    """The raw body, when it has a fair size and comes whole and in time (`service.web.bodies`)."""
    try:
        # A chunked body has no length beforehand: read one byte more than is allowed, and no further.
        body = get_input_stream(environ).read(MAX_BODY_BYTES + 1)
    except HTTPException as error:
        status = error.code or 400
        raise DeliveryRejected(status, ERROR_CODES[status], error.description or error.name, "unreadable") from None
    if len(body) > MAX_BODY_BYTES:
        raise _body_too_large()
    return body


def _signature_rejected(answer: str) -> DeliveryRejected:
    """One response for every way in which a signature can be wrong."""
    return DeliveryRejected(401, "UNAUTHORIZED", "the signature is missing, wrong or too old", answer)


def _body_too_large() -> DeliveryRejected:
    return DeliveryRejected(413, "PAYLOAD_TOO_LARGE", f"a body has {MAX_BODY_BYTES} bytes at most", "too_large")


def _environ_key(header: str) -> str:
    """The name that WSGI gives to a header."""
    return f"HTTP_{header.upper().replace('-', '_')}"


SIGNATURE, TIMESTAMP = _environ_key(SIGNATURE_HEADER), _environ_key(TIMESTAMP_HEADER)
