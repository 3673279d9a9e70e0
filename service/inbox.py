"""The inbox: a Redis stream of deliveries between the door and the drain.

An entry leaves the stream only after the transaction that applied it has committed. What a dead worker had in hand
is taken over by the next drain. The stream is never trimmed: what nobody has read would be lost.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.errors import InboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STREAM = "headshotpro:inbox"
GROUP = "drain"

# Longer than a batch takes, so that nobody takes a batch over that is being applied; the merge would bear it.
RECLAIM_AFTER_MS = 5000
FORGET_CONSUMER_AFTER_MS = 3_600_000

# After a time-out at the door, others are turned away at once for so long, but for one that tries.
FUSE_SECONDS = 1.0


class Entry(NamedTuple):
    """One delivery in the stream.

    Attributes:
        entry_id: the stream's id of it.
        body: the raw body.
        signed_at: its signed timestamp.
        received_at: when the door took it.
    """

    entry_id: str
    body: bytes
    signed_at: datetime
    received_at: datetime


class Depth(NamedTuple):
    """How much waits in the inbox.

    Attributes:
        events: entries that are not applied yet, those in a worker's hand included.
        oldest_seconds: age of the oldest; None where there is none.
    """

    events: int
    oldest_seconds: float | None


def connect(url: str, *, timeout: float = 5.0) -> redis.Redis:
    """A client whose calls end within `timeout` seconds, without redis-py's own retries (up to a minute by default)."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 5.0),
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )


@contextmanager
def reachable() -> Iterator[None]:
    """Turn redis-py's errors into ours.

    Raises:
        InboxUnavailable: Redis cannot be reached, or refuses to write.
    """
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        raise InboxUnavailable(f"Redis cannot be reached or refuses: {error}") from error


class Fuse:
    """Spares callers the time-out of a Redis that hangs: after one, they fail at once, but for one each second.

    A Redis that refuses connections answers quickly, so that alone blows no fuse: the first call after its return is
    served.
    """

    def __init__(self) -> None:
        self._blown_until = 0.0

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """The same as the function `reachable`, behind the fuse.

        Raises:
            InboxUnavailable: Redis cannot be reached, refuses to write, or hung a moment ago.
        """
        now = monotonic()
        if now < self._blown_until:
            raise InboxUnavailable("Redis did not answer a moment ago")
        if self._blown_until:
            # This call tries for all; meanwhile the others fail.
            self._blown_until = now + FUSE_SECONDS
        try:
            with reachable():
                yield
        except InboxUnavailable as error:
            hung = isinstance(error.__cause__, redis.exceptions.TimeoutError)
            self._blown_until = monotonic() + FUSE_SECONDS if hung else 0.0
            raise
        self._blown_until = 0.0


class Durability(NamedTuple):
    """What Redis' settings promise for an event that it has taken.

    Attributes:
        words: the promise, for people.
        faults: what is wrong with the settings, each with what to do.
    """

    words: str
    faults: tuple[str, ...]


def durability(client: Any) -> Durability:
    """Read off Redis what it promises.

    Raises:
        InboxUnavailable: Redis cannot be reached.
    """
    with reachable():
        try:
            given = {**client.config_get("append*"), **client.config_get("maxmemory-policy")}
        except redis.exceptions.ResponseError:
            # Managed servers keep CONFIG to themselves; what they tell in INFO is less.
            client.ping()
            return Durability("durability unknown (CONFIG is not allowed)", ())
    texts = {_plain(name): _plain(value) for name, value in given.items()}
    return _promise(texts.get("appendonly"), texts.get("appendfsync"), texts.get("maxmemory-policy"))


def _plain(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _promise(append_only: str | None, fsync: str | None, policy: str | None) -> Durability:
    faults: list[str] = []
    if append_only != "yes":
        faults.append("appendonly is off: events are lost when Redis restarts; set `appendonly yes`")
    if policy != "noeviction":
        faults.append(f"maxmemory-policy is {policy}: Redis may throw events away; set `maxmemory-policy noeviction`")
    if append_only != "yes":
        words = "an event does not survive a restart of Redis"
    elif fsync == "always":
        words = "an event survives a power cut (appendfsync always)"
    else:
        words = f"an event survives a kill, not a power cut (appendfsync {fsync})"
    return Durability("; ".join((words, *faults[1 if append_only != "yes" else 0 :])), tuple(faults))


class Inbox:
    """The stream, from both sides.

    Args:
        client: a connection to Redis; not one that decodes answers.
        consumer: the name under which this process reads.
    """

    def __init__(self, client: redis.Redis, consumer: str = "") -> None:
        self._client: Any = client
        self._consumer = consumer or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._fuse = Fuse()

    def put(self, body: bytes, signed_at: int, received_at: datetime) -> None:
        """Take a delivery; it is safe when this returns.

        Args:
            body: the raw body.
            signed_at: its signed timestamp in Unix seconds.
            received_at: our time.

        Raises:
            InboxUnavailable: Redis did not take it.
        """
        fields = {"body": body, "signed_at": signed_at, "received_at": received_at.timestamp()}
        with self._fuse.reachable():
            self._client.xadd(STREAM, fields)

    def read(self, count: int, wait_ms: int) -> list[Entry]:
        """The next entries for this consumer; those of dead consumers first.

        Args:
            count: how many at most.
            wait_ms: how long to wait for the first one; 0 does not wait.
        """
        with reachable():
            try:
                return self._reclaim(count) or self._next(count, wait_ms)
            except redis.exceptions.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                self._make_group()
                return self._next(count, 0)

    def done(self, entries: Sequence[Entry]) -> None:
        """Acknowledge and delete entries whose transaction has committed."""
        if not entries:
            return
        ids = [entry.entry_id for entry in entries]
        with reachable(), self._client.pipeline() as pipeline:
            pipeline.xack(STREAM, GROUP, *ids)
            pipeline.xdel(STREAM, *ids)
            pipeline.execute()

    def depth(self) -> Depth:
        """How much waits. The age is that of the oldest entry by Redis' own clock."""
        with reachable(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.xlen(STREAM)
            pipeline.xrange(STREAM, count=1)
            pipeline.time()
            length, first, (seconds, microseconds) = pipeline.execute()
        if not first:
            return Depth(0, None)
        arrived = int(first[0][0].split(b"-")[0]) / 1000
        return Depth(int(length), max(0.0, seconds + microseconds / 1e6 - arrived))

    def forget_dead_consumers(self, unseen_ms: int = FORGET_CONSUMER_AFTER_MS) -> None:
        """Remove consumers that have nothing in hand and were not seen for so long."""
        with reachable():
            try:
                consumers = self._client.xinfo_consumers(STREAM, GROUP)
            except redis.exceptions.ResponseError:
                return
            for consumer in consumers:
                if consumer["pending"] == 0 and consumer["idle"] > unseen_ms:
                    self._client.xgroup_delconsumer(STREAM, GROUP, consumer["name"])

    def _reclaim(self, count: int) -> list[Entry]:
        _, claimed, *_ = self._client.xautoclaim(
            STREAM, GROUP, self._consumer, min_idle_time=RECLAIM_AFTER_MS, count=count
        )
        return [_entry(entry_id, fields) for entry_id, fields in claimed if fields]

    def _next(self, count: int, wait_ms: int) -> list[Entry]:
        # XREADGROUP takes 0 as "wait for ever"; None does not wait.
        answer = self._client.xreadgroup(GROUP, self._consumer, {STREAM: ">"}, count=count, block=wait_ms or None)
        if not answer:
            return []
        # RESP3 answers with a mapping, RESP2 with a list of pairs.
        batches = answer.values() if isinstance(answer, dict) else [entries for _, entries in answer]
        pairs = [pair for batch in batches for pair in _flat(batch)]
        return [_entry(entry_id, fields) for entry_id, fields in pairs]

    def _make_group(self) -> None:
        """Make the group anew, from the first entry: after Redis lost its data, or at the very first start."""
        try:
            self._client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except redis.exceptions.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


def _flat(batch: Any) -> list[tuple[bytes, Any]]:
    """RESP3 wraps a stream's entries in one more list."""
    return batch[0] if batch and isinstance(batch[0], list) else batch


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """An entry of ours; one that somebody else wrote has an empty body, and ends as dead."""
    arrived = datetime.fromtimestamp(int(entry_id.split(b"-")[0]) / 1000, UTC)
    return Entry(
        entry_id=entry_id.decode(),
        body=fields.get(b"body", b""),
        signed_at=_time(fields.get(b"signed_at"), arrived),
        received_at=_time(fields.get(b"received_at"), arrived),
    )


def _time(seconds: bytes | None, arrived: datetime) -> datetime:
    try:
        return datetime.fromtimestamp(float(seconds or b""), UTC)
    except (ValueError, OverflowError):
        return arrived


STALE_MODELS = "headshotpro:stale_models"
ONE_QUESTION_EVERY_SECONDS = 60


class StaleModels:
    """Models about which a rightly signed delivery came too late to be believed: the upstream is asked instead.

    Args:
        client: a connection to Redis.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def note(self, model_id: str) -> None:
        """Ask about a model, at most once a minute."""
        with reachable():
            flag = f"{STALE_MODELS}:{model_id}"
            if self._client.set(flag, 1, nx=True, ex=ONE_QUESTION_EVERY_SECONDS):
                self._client.sadd(STALE_MODELS, model_id)

    def waiting(self) -> list[str]:
        """Those that were noted and not yet handed on."""
        with reachable():
            return sorted(member.decode() for member in self._client.smembers(STALE_MODELS))

    def handed_on(self, ids: Sequence[str]) -> None:
        """The questions about these are in Postgres now."""
        with reachable():
            self._client.srem(STALE_MODELS, *ids)
