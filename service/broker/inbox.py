"""The inbox: a Redis stream of deliveries between the endpoint and the drain.

An entry leaves the stream only after the transaction that applied it has committed. The entries that
a dead worker had read are taken over by the next drain. The stream is never trimmed: unread entries would be lost.

While Redis cannot take a delivery, `service.web.delivery_store` puts it into Postgres (`service.storage.spool`).
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import redis
from redis.exceptions import ReadOnlyError

from service.broker.client import translate_redis_errors
from service.process_identity import new_process_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.broker.jobs import Job

STREAM = "headshotpro:inbox"
GROUP = "drain"

# Longer than a batch and the one that is read meanwhile take where Postgres is quick, so that no drain takes over what
# another one applies; that would change nothing.
RECLAIM_AFTER_MS = 5000
FORGET_CONSUMER_AFTER_MS = 3_600_000

# One read brings this into memory: entries of its first trip, and at most of a later one, after small bodies; and bytes
# of bodies, after which no further trip is made.
READ_BATCH_SIZE = 128
MAX_TRIP_SIZE = 512
MAX_READ_BYTES = 4 * 1024 * 1024


class Delivery(NamedTuple):
    """One delivery, from the endpoint to the drain.

    Attributes:
        body: its body, without login links.
        received_at: our time of its arrival.
        delivery_id: our own id of it: where it is kept or read twice, it counts once.
        event_id: the id of its event, which may be a digest of the body as it was received; None where a web process
            took it that did not send one.
        entry_id: its id in the stream or in the spool; empty where it is in neither.
    """

    body: bytes
    signed_at: datetime
    received_at: datetime
    delivery_id: str
    event_id: str | None = None
    entry_id: str = ""

    @classmethod
    def arrived(cls, body: bytes, signed_at: int, received_at: datetime, event_id: str | None = None) -> Self:
        """A delivery that just came in, signed at a time in Unix seconds, with an id of its own."""
        return cls(body, datetime.fromtimestamp(signed_at, UTC), received_at, secrets.token_hex(8), event_id)


class PutResult(NamedTuple):
    """The result of a `put`.

    Attributes:
        length: how many entries the stream holds now.
        flag_raised: whether the flag that came with them was down before.
    """

    length: int
    flag_raised: bool


class InboxDepth(NamedTuple):
    """How much waits in the inbox.

    Attributes:
        events: entries that are not applied yet, those in a worker's hand included.
        oldest_seconds: age of the oldest; None where there is none.
    """

    events: int
    oldest_seconds: float | None


class Inbox:
    """The stream, from both sides.

    Args:
        client: a connection to Redis; not one that decodes responses.
        consumer: the name under which this process reads.
    """

    def __init__(self, client: redis.Redis, consumer: str = "") -> None:
        self._client: Any = client
        self._consumer = consumer or new_process_name()

    def put(self, *deliveries: Delivery, wake: Job | None = None) -> PutResult:
        """Take deliveries in one round trip; they are safe when this returns.

        The flag of the job to `wake` is raised after they are in, so that a drain that clears it and then reads finds
        them.

        Raises:
            RedisUnavailable: Redis did not take all of them, or did not confirm it in time.
        """
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipeline:
            for delivery in deliveries:
                pipeline.execute_command("XADD", STREAM, "*", *_fields(delivery))
            pipeline.execute_command("XLEN", STREAM)
            if wake:
                pipeline.execute_command("SET", wake.flag, 1, "NX", "PX", wake.flag_ms)
            results = pipeline.execute(raise_on_error=False)
            taken, (length, *raised) = results[: len(deliveries)], results[len(deliveries) :]
            for result in (*taken, length):
                if isinstance(result, ReadOnlyError):
                    # See `connect_redis`: an error that is returned as a result closes no connection by itself.
                    self._client.connection_pool.disconnect(inuse_connections=False)
                if isinstance(result, Exception):
                    raise result
        # Where Redis has no room for the flag, no worker is woken here: the clock does it.
        return PutResult(int(length), any(result and not isinstance(result, Exception) for result in raised))

    def read(self, count: int, wait_ms: int) -> list[Delivery]:
        """The next entries for this consumer; those of dead consumers first.

        `count` at most, fewer where their bodies are large (`MAX_READ_BYTES`); it waits `wait_ms` for the first one.
        """
        with translate_redis_errors():
            try:
                return _read_trips(self._reclaim, count) or _read_trips(self._next, count, wait_ms)
            except redis.exceptions.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                self._make_group()
                return _read_trips(self._next, count)

    def done(self, entries: Sequence[Delivery]) -> None:
        """Acknowledge and delete entries whose transaction has committed."""
        if not entries:
            return
        ids = [entry.entry_id for entry in entries]
        with translate_redis_errors(), self._client.pipeline() as pipeline:
            pipeline.xack(STREAM, GROUP, *ids)
            pipeline.xdel(STREAM, *ids)
            pipeline.execute()

    def depth(self) -> InboxDepth:
        """How much waits. The age is that of the oldest entry by Redis' own clock."""
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.xlen(STREAM)
            pipeline.xrange(STREAM, count=1)
            pipeline.time()
            length, first, (seconds, microseconds) = pipeline.execute()
        if not first:
            return InboxDepth(0, None)
        arrived = int(first[0][0].split(b"-")[0]) / 1000
        return InboxDepth(int(length), max(0.0, seconds + microseconds / 1e6 - arrived))

    def oldest_received_at(self) -> datetime | None:
        """When the oldest delivery that is not applied yet came, by our clock; None where none waits."""
        with translate_redis_errors():
            first = self._client.xrange(STREAM, count=1)
        return _delivery(*first[0]).received_at if first else None

    def forget_dead_consumers(self, unseen_ms: int = FORGET_CONSUMER_AFTER_MS) -> None:
        """Remove consumers that have no entries in flight and were not seen for `unseen_ms`."""
        with translate_redis_errors():
            try:
                consumers = self._client.xinfo_consumers(STREAM, GROUP)
            except redis.exceptions.ResponseError:
                return
            for consumer in consumers:
                if consumer["pending"] == 0 and consumer["idle"] > unseen_ms:
                    self._client.xgroup_delconsumer(STREAM, GROUP, consumer["name"])

    def _reclaim(self, count: int, _wait_ms: int) -> list[Delivery]:
        _, claimed, *_ = self._client.xautoclaim(
            STREAM, GROUP, self._consumer, min_idle_time=RECLAIM_AFTER_MS, count=count
        )
        return [_delivery(entry_id, fields) for entry_id, fields in claimed if fields]

    def _next(self, count: int, wait_ms: int) -> list[Delivery]:
        # XREADGROUP takes 0 as "wait for ever"; None does not wait.
        response = self._client.xreadgroup(GROUP, self._consumer, {STREAM: ">"}, count=count, block=wait_ms or None)
        if not response:
            return []
        # RESP3 has a mapping here, RESP2 a list of pairs.
        batches = response.values() if isinstance(response, dict) else [entries for _, entries in response]
        # RESP3 wraps a stream's entries in one more list.
        unwrapped = (batch[0] if batch and isinstance(batch[0], list) else batch for batch in batches)
        pairs = [pair for batch in unwrapped for pair in batch]
        return [_delivery(entry_id, fields) for entry_id, fields in pairs]

    def _make_group(self) -> None:
        """Make the group anew, from the first entry: after Redis lost its data, or at the very first start."""
        try:
            self._client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except redis.exceptions.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


def _read_trips(take: Callable[[int, int], list[Delivery]], count: int, wait_ms: int = 0) -> list[Delivery]:
    """Entries of several trips; only the first one waits."""
    found: list[Delivery] = []
    room, trip = MAX_READ_BYTES, READ_BATCH_SIZE
    while room > 0 and (wanted := min(count - len(found), trip)):
        some = take(wanted, 0 if found else wait_ms)
        found += some
        size = sum(len(entry.body) for entry in some)
        room -= size
        if len(some) < wanted:
            break
        # A read is a write for Redis: with `appendfsync always` each trip waits for its disk.
        fitting = room * len(some) // max(size, 1)
        trip = max(READ_BATCH_SIZE, min(MAX_TRIP_SIZE, fitting))
    return found


def _fields(delivery: Delivery) -> tuple[str | bytes | float, ...]:
    """Names and values of an entry, in turn."""
    event_id = () if delivery.event_id is None else ("event_id", delivery.event_id)
    return (
        "body", delivery.body, "signed_at", int(delivery.signed_at.timestamp()),
        "received_at", delivery.received_at.timestamp(), "delivery_id", delivery.delivery_id, *event_id,
    )  # fmt: skip


def _delivery(entry_id: bytes, fields: dict[bytes, bytes]) -> Delivery:
    """An entry of the stream; one that another program wrote has an empty body, and ends as dead."""
    event_id = fields.get(b"event_id")
    return Delivery(
        body=fields.get(b"body", b""),
        signed_at=_time(fields.get(b"signed_at"), entry_id),
        received_at=_time(fields.get(b"received_at"), entry_id),
        delivery_id=fields.get(b"delivery_id", entry_id).decode("ascii", "replace"),
        event_id=None if event_id is None else event_id.decode("utf-8", "replace"),
        entry_id=entry_id.decode(),
    )


def _time(seconds: bytes | None, entry_id: bytes) -> datetime:
    """A time of an entry. Where it has none, the time in its id; where that is none either, now."""
    try:
        return datetime.fromtimestamp(float(seconds or entry_id.partition(b"-")[0][:-3]), UTC)
    except (ValueError, OverflowError):
        return _time(None, entry_id) if seconds else datetime.now(UTC)
