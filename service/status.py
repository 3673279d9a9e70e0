"""The state of the whole mirror, read from Postgres and Redis within a bound: its problems, and figures beside them.

Everything that reports whether the mirror is well reads it here: `status`, `doctor`, `up` and `HEARTBEAT_URL`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from service.alerts import problems
from service.alerts.problems import ProblemFacts, SeenProcess, this_up
from service.broker import durability
from service.broker.client import connect_redis
from service.broker.counters import DELIVERIES
from service.errors import PostgresUnavailable, RedisUnavailable, SchemaOutdated
from service.storage import alerts, console_events, database, organization, processes, pulls
from service.storage.console_events import EventSearch
from service.storage.database import BackgroundCall
from service.storage.migrations import revision
from service.storage.status_report import server_info, snapshot
from service.upstream.budget import RequestBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from service.alerts.problems import LocalUp, Problem
    from service.broker.durability import RedisFigures
    from service.config import Settings
    from service.storage.organization import MirroredOrganization
    from service.storage.pulls import FailingPull
    from service.storage.status_report import MirrorSnapshot

# Either server has this long, whatever it does; one is read after the other.
SERVER_SECONDS = 4
# Deliveries that were refused for their signature: a wrong one, or a right one that is too old.
REFUSED = ("forged", "stale")


class _PostgresState(NamedTuple):
    now: datetime
    processes: list[dict[str, Any]]
    alerts: list[str]
    right_signature_at: datetime | None
    failing_pulls: Sequence[FailingPull]
    figures: MirrorSnapshot | None
    newest: NewestRecords | None


class NewestRecords(NamedTuple):
    """Whom the database mirrors, and what came last.

    The organization is None before the first full pull; events and pulls are columns by name.
    """

    organization: MirroredOrganization | None
    event: Mapping[str, Any] | None
    pull: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class MirrorState:
    """The mirror at one moment.

    Attributes:
        facts: what its problems follow from.
        processes: the rows of `processes`, as a list of columns by name; None where Postgres is unavailable.
        figures: more figures from Postgres, where they were requested.
        newest: the organization, and the newest event and pull, where the figures were requested.
    """

    facts: ProblemFacts
    processes: Sequence[Mapping[str, Any]] | None
    figures: MirrorSnapshot | None
    newest: NewestRecords | None
    redis: RedisFigures | None

    @property
    def problems(self) -> list[Problem]:
        """Every problem, the gravest first."""
        return problems.problems(self.facts)

    @property
    def verdict(self) -> str:
        """The first line of `status`."""
        return problems.verdict(self.facts, self.events_waiting)

    @property
    def events_waiting(self) -> int | None:
        """Events that are not applied yet, as far as is known; None while Redis is unavailable."""
        if self.redis is None:
            return None
        return self.redis.capacity.events + (self.figures.spooled_events if self.figures else 0)

    @property
    def oldest_waiting_seconds(self) -> float | None:
        """Age of the oldest of them."""
        if self.redis is None:
            return None
        ages = (self.redis.capacity.depth.oldest_seconds, self.figures and self.figures.oldest_spooled_seconds)
        return max((age for age in ages if age is not None), default=None)

    @property
    def refused_deliveries(self) -> int | None:
        """Deliveries that got a 401 so far."""
        if self.redis is None:
            return None
        return int(sum(self.redis.counts.get((DELIVERIES, result), 0) for result in REFUSED))


class StatusReader:
    """Connections of its own, of which a server that hangs blocks one at most.

    Args:
        settings: they say where both servers are.
        local: the `up` that runs the system, read anew each time; by default the one that started this process.
    """

    def __init__(self, settings: Settings, local: Callable[[], LocalUp | None] = this_up) -> None:
        self._settings = settings
        self._local = local
        self._engine = database.connect(
            settings.postgres_url, pool_size=1, overflow=0, pool_timeout=1, connect_timeout=SERVER_SECONDS
        )
        self._client = connect_redis(settings.redis, timeout=SERVER_SECONDS)

    def read(self, *, figures: bool = True) -> MirrorState:
        """The state now; without the figures it costs both servers next to nothing."""
        found, postgres, schema_error = self._read_postgres(figures=figures)
        redis, redis_error = self._read_redis()
        rows = found.processes if found else []
        facts = ProblemFacts(
            postgres=postgres,
            redis=redis_error,
            schema=schema_error,
            inbox=redis.capacity.state if redis and redis.capacity.full else "",
            now=found.now if found else None,
            processes=[SeenProcess(row["kind"], row["started_at"], row["seen_at"]) for row in rows],
            expected=self._expected([row["kind"] for row in rows]),
            alerts=found.alerts if found else (),
            right_signature_at=found.right_signature_at if found else None,
            failing_pulls=found.failing_pulls if found else (),
            api_url=self._settings.headshotpro_api_url,
            pulled=found.figures.pull_age_seconds is not None if found and found.figures else None,
            local=self._local(),
        )
        return MirrorState(facts, found and found.processes, found and found.figures, found and found.newest, redis)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._engine.dispose()

    def _expected(self, seen: Sequence[str]) -> Sequence[str]:
        """A mirror without a webhook secret only pulls: it needs no web, unless it has one."""
        wants_web = self._settings.headshotpro_webhook_secret is not None or "web" in seen
        return ("web", "worker", "clock") if wants_web else ("worker", "clock")

    def _read_postgres(self, *, figures: bool) -> tuple[_PostgresState | None, str, SchemaOutdated | None]:
        """The state from Postgres, or why it is unavailable, or why its schema is too old."""
        try:
            return BackgroundCall(lambda: self._query_postgres(figures=figures)).result(2 * SERVER_SECONDS), "", None
        except PostgresUnavailable as error:
            return None, str(error).removeprefix("Postgres cannot be reached or gave up: "), None
        except SchemaOutdated as error:
            return None, "", error

    def _query_postgres(self, *, figures: bool) -> _PostgresState:
        revision.check(self._engine)
        with database.transaction(self._engine, SERVER_SECONDS) as connection:
            database.require_writes(connection)
            _version, now = server_info(connection)
            return _PostgresState(
                now,
                processes.list_rows(connection),
                alerts.unacknowledged_kinds(connection),
                alerts.right_signature_at(connection),
                pulls.failing(connection),
                snapshot(connection) if figures else None,
                _read_newest(connection) if figures else None,
            )

    def _read_redis(self) -> tuple[RedisFigures | None, str]:
        settings = self._settings
        try:
            budget = RequestBudget(self._client, settings.rate_budget, settings.detail_budget)
            return durability.read_figures(self._client, budget.requests_left, settings.inbox_limit), ""
        except RedisUnavailable as error:
            return None, str(error).removeprefix("Redis cannot be reached or refuses: ")


def _read_newest(connection: Connection) -> NewestRecords:
    return NewestRecords(
        organization.read(connection),
        next(iter(console_events.page(connection, EventSearch(), None, 1)), None),
        next(iter(pulls.list_rows(connection, kind=None, limit=1)), None),
    )
