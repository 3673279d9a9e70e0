"""The state of the whole mirror, read from Postgres and Redis within a bound: its problems, and figures beside them.

Everybody who reports whether the mirror is well reads it here: `status`, `doctor`, `up` and `HEARTBEAT_URL`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from service.alerts import problems
from service.alerts.problems import Facts, Seen
from service.broker import counters, durability, inbox
from service.broker.counters import DELIVERIES
from service.errors import InboxUnavailable, SchemaOutdated, StorageUnavailable
from service.storage import alerts, database, processes
from service.storage.deadline import Question
from service.storage.migrations import revision
from service.storage.status_report import server, snapshot
from service.upstream.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from service.alerts.problems import Problem
    from service.broker.durability import Room
    from service.config import Settings
    from service.storage.status_report import Snapshot

# Either server has this long, whatever it does; they are asked one after the other.
SERVER_SECONDS = 4
# Deliveries that were refused for their signature: a wrong one, or a right one that is too old.
REFUSED = ("forged", "stale")


class _FromPostgres(NamedTuple):
    now: datetime
    processes: list[dict[str, Any]]
    alerts: list[str]
    figures: Snapshot | None


class _FromRedis(NamedTuple):
    room: Room
    requests_left: int
    counts: Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class State:
    """The mirror at one moment.

    Attributes:
        facts: what its problems follow from.
        processes: the rows of `processes`, as a list of columns by name; None where Postgres is unavailable.
        figures: what Postgres knows besides, where that was asked for.
        redis: what Redis knows.
    """

    facts: Facts
    processes: Sequence[Mapping[str, Any]] | None
    figures: Snapshot | None
    redis: _FromRedis | None

    @property
    def problems(self) -> list[Problem]:
        """Every problem, the gravest first."""
        return problems.problems(self.facts)

    @property
    def events_waiting(self) -> int | None:
        """Events that are not applied yet, as far as is known; None while Redis is unavailable."""
        if self.redis is None:
            return None
        return self.redis.room.events + (self.figures.spooled_events if self.figures else 0)

    @property
    def oldest_waiting_seconds(self) -> float | None:
        """Age of the oldest of them."""
        if self.redis is None:
            return None
        ages = (self.redis.room.depth.oldest_seconds, self.figures and self.figures.oldest_spooled_seconds)
        return max((age for age in ages if age is not None), default=None)

    @property
    def refused_deliveries(self) -> int | None:
        """Deliveries that were answered with 401 so far."""
        if self.redis is None:
            return None
        return int(sum(self.redis.counts.get((DELIVERIES, answer), 0) for answer in REFUSED))


class StatusReader:
    """Connections of its own, of which a server that hangs blocks one at most.

    Args:
        settings: they say where both servers are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = database.connect(
            settings.postgres_url, pool_size=1, overflow=0, patience=1, connect_timeout=SERVER_SECONDS
        )
        self._client = inbox.connect(settings.redis, timeout=SERVER_SECONDS)

    def read(self, *, figures: bool = True) -> State:
        """The state now; without the figures it costs both servers next to nothing."""
        found, postgres, outdated = self._ask_postgres(figures=figures)
        redis, gone = self._ask_redis()
        rows = found.processes if found else []
        facts = Facts(
            postgres=postgres,
            redis=gone,
            schema=outdated,
            inbox=redis.room.state if redis and redis.room.full else "",
            now=found.now if found else None,
            processes=[Seen(row["kind"], row["started_at"], row["seen_at"]) for row in rows],
            expected=self._expected([row["kind"] for row in rows]),
            alerts=found.alerts if found else (),
        )
        return State(facts, found and found.processes, found and found.figures, redis)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._engine.dispose()

    def _expected(self, seen: Sequence[str]) -> Sequence[str]:
        """A mirror without a webhook secret only pulls: it needs no web, unless it has one."""
        wants_web = self._settings.headshotpro_webhook_secret is not None or "web" in seen
        return ("web", "worker", "clock") if wants_web else ("worker", "clock")

    def _ask_postgres(self, *, figures: bool) -> tuple[_FromPostgres | None, str, str]:
        """The state from Postgres, or why it is unavailable, or why its schema is too old."""
        try:
            return Question(lambda: self._of_postgres(figures=figures)).answer(2 * SERVER_SECONDS), "", ""
        except StorageUnavailable as error:
            return None, str(error).removeprefix("Postgres cannot be reached or gave up: "), ""
        except SchemaOutdated as error:
            return None, "", str(error)

    def _of_postgres(self, *, figures: bool) -> _FromPostgres:
        revision.check(self._engine)
        with database.transaction(self._engine, SERVER_SECONDS) as connection:
            database.require_writes(connection)
            _version, now = server(connection)
            return _FromPostgres(
                now,
                processes.listed(connection),
                alerts.unacknowledged(connection),
                snapshot(connection) if figures else None,
            )

    def _ask_redis(self) -> tuple[_FromRedis | None, str]:
        settings = self._settings
        try:
            budget = Budget(self._client, settings.rate_budget, settings.detail_budget)
            room = durability.room(self._client, settings.inbox_limit)
            return _FromRedis(room, budget.requests_left(), counters.read(self._client)), ""
        except InboxUnavailable as error:
            return None, str(error).removeprefix("Redis cannot be reached or refuses: ")
