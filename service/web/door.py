"""The webhook door: verify, decode, keep it safe, wake a worker. Nothing else, and no Postgres where Redis takes it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from flask import jsonify, request
from werkzeug.exceptions import HTTPException

from service.counters import DELIVERIES
from service.errors import DeliveryRejected, InboxUnavailable, Unavailable
from service.inbox import Delivery
from service.mirror.event import LONGEST_ID
from service.queue import Job
from service.upstream.payloads import decode_envelope, event_id_of
from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, Verdict, verify
from service.web.answers import CODES, error_answer

if TYPE_CHECKING:
    from flask import Response

    from service.config import Settings
    from service.counters import Counters
    from service.inbox import StaleModels
    from service.queue import JobQueue
    from service.web.keeper import Keeper

log = structlog.get_logger(__name__)

LARGEST_BODY = 256 * 1024
# The vendor's own next try comes after five minutes; a client of ours may come sooner.
RETRY_AFTER_SECONDS = 30


class Door:
    """Where deliveries come in.

    Args:
        keeper: what makes them safe; a 202 is sent only after that.
        stale_models: where models are noted whose deliveries came too late.
        queue: where a worker is woken.
        settings: the secrets and the tolerance.
        counters: where answers are counted.
    """

    def __init__(
        self, keeper: Keeper, stale_models: StaleModels, queue: JobQueue, settings: Settings, counters: Counters
    ) -> None:
        self._keeper = keeper
        self._stale_models = stale_models
        self._queue = queue
        self._counters = counters
        self._secrets = settings.webhook_secrets
        self._tolerance = settings.webhook_tolerance_seconds

    def receive(self) -> tuple[Response, int] | tuple[Response, int, dict[str, str]]:
        """Answer a delivery: size, content type, signature and form are checked in this order."""
        now = time.time()
        try:
            body = self._body()
            timestamp = self._verified_timestamp(body, now)
            envelope = decode_envelope(body)
            event_id = event_id_of(envelope, int(timestamp), body)
            arrived = datetime.fromtimestamp(now, UTC)
            kept = self._keeper.keep(Delivery.arrived(body, int(timestamp), arrived))
        except DeliveryRejected as error:
            self._counters.add(DELIVERIES, error.answer)
            log.info("delivery", answer=error.answer, status=error.status)
            return error_answer(error.status, error.code, str(error))
        except Unavailable as error:
            self._counters.add(DELIVERIES, "unavailable")
            log.error("delivery", answer="unavailable", status=503, reason=str(error))
            answer, status = error_answer(503, "UNAVAILABLE", "the event cannot be kept now: send it again")
            return answer, status, {"Retry-After": str(RETRY_AFTER_SECONDS)}
        # Where Redis is gone there is nobody to wake: the clock does it when it is back.
        if kept == "inbox":
            self._wake()
        self._counters.add(DELIVERIES, "accepted")
        log.info("delivery", answer="accepted", status=202, kept=kept, event_id=event_id, model_id=envelope.model_id)
        return jsonify(status="accepted", event=event_id), 202

    def _body(self) -> bytes:
        """The raw body, when it is of a fair size and may be JSON; a larger one is not even read."""
        if (request.content_length or 0) > LARGEST_BODY:
            raise _too_large()
        # A chunked body tells no length beforehand: read one byte more than is allowed, and no further.
        body = _read(LARGEST_BODY + 1)
        if len(body) > LARGEST_BODY:
            raise _too_large()
        if request.mimetype and request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
            raise DeliveryRejected(415, "UNSUPPORTED_MEDIA_TYPE", "the body must be application/json", "media_type")
        return body

    def _verified_timestamp(self, body: bytes, now: float) -> str:
        """The signed timestamp; one answer for every way in which a signature can be wrong."""
        signature, timestamp = request.headers.get(SIGNATURE_HEADER), request.headers.get(TIMESTAMP_HEADER)
        verdict = verify(self._secrets, signature, timestamp, body, now=now, tolerance=self._tolerance)
        if verdict is Verdict.STALE:
            self._note_stale(body)
        if verdict is not Verdict.VALID or timestamp is None:
            answer = "stale" if verdict is Verdict.STALE else "forged"
            raise DeliveryRejected(401, "UNAUTHORIZED", "the signature is missing, wrong or too old", answer)
        return timestamp

    def _note_stale(self, body: bytes) -> None:
        """A rightly signed delivery that is too old is not believed, but the upstream is asked about its model.

        The vendor may sign retries with the time of the first try; what they tell must not be lost.
        """
        try:
            model_id = decode_envelope(body).model_id
            # A longer id is no model's, and no index takes it.
            if model_id and len(model_id) <= LONGEST_ID:
                self._stale_models.note(model_id)
        except (DeliveryRejected, InboxUnavailable) as error:
            log.info("stale_delivery.not_noted", reason=str(error))

    def _wake(self) -> None:
        """The event is safe already: where waking fails, the clock wakes a worker a second later."""
        try:
            self._queue.ask(Job.DRAIN)
        except InboxUnavailable as error:
            log.warning("wake.failed", reason=str(error))


def _read(size: int) -> bytes:
    """So much of the body at most; one that comes too slowly or breaks off (`worker`) is refused."""
    try:
        return request.stream.read(size)
    except HTTPException as error:
        status = error.code or 400
        raise DeliveryRejected(status, CODES[status], error.description or error.name, "unreadable") from None


def _too_large() -> DeliveryRejected:
    return DeliveryRejected(413, "PAYLOAD_TOO_LARGE", f"a body has {LARGEST_BODY} bytes at most", "too_large")
