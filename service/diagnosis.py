"""The faults of a deployment, and the action for each: for `doctor` and the console."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from service.alerts.problems import SERVER_CODES, count_alive, explain_url, fit_to_up, this_up
from service.broker import durability
from service.broker.client import connect_redis, translate_redis_errors
from service.errors import (
    ClusterRefused,
    KeyRejected,
    PostgresUnavailable,
    RedisUnavailable,
    SchemaOutdated,
    UpstreamError,
    WrongKeyType,
)
from service.process_identity import ALIVE_SECONDS
from service.redis_keys import wrong_keys
from service.storage import database
from service.storage.migrations import revision
from service.storage.status_report import server_info
from service.upstream import headers
from service.upstream.budget import Priority
from service.upstream.client import UpstreamClient
from service.upstream.sending import RequestObservers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.alerts.problems import LocalUp
    from service.config import Settings
    from service.status import MirrorState

MOST_SKEW_SECONDS = 5.0
# Shorter ones can be guessed; 16 random hex digits cannot.
SHORTEST_SECRET = 16
SECRET_LENGTH = 64
# Checks that are about the same as a problem of `status`.
_PROBLEMS = dict(zip(("postgres", "redis", "schema"), SERVER_CODES, strict=True))


class Finding(NamedTuple):
    """A check: its name, whether it is well, what was seen, and what to do; advice about something well is a hint."""

    check: str
    ok: bool
    seen: str
    advice: str = ""

    @property
    def mark(self) -> str:
        """`ok`, `hint` or `BAD`."""
        if not self.ok:
            return "BAD"
        return "hint" if self.advice else "ok"


def diagnose(
    settings: Settings, read_state: Callable[[], MirrorState], local: LocalUp | None = None
) -> Iterator[Finding]:
    """Check settings, servers, schema, Redis' durability, clocks, processes, API key and webhook secret.

    It sends one request to the upstream, outside of the request budget: Redis may be the server that is
    unavailable. The state of the mirror is read where both servers are set. Advice fits the `up` that runs the system.
    """
    for finding in _check(settings, read_state):
        code = "" if finding.ok else _PROBLEMS.get(finding.check, finding.check)
        yield finding._replace(advice=fit_to_up(code, finding.advice, local or this_up()))


def _check(settings: Settings, read_state: Callable[[], MirrorState]) -> Iterator[Finding]:
    yield from _settings(settings)
    yield from _postgres(settings)
    yield from _redis(settings)
    if settings.database_url is not None and settings.redis_url is not None:
        yield from _mirror(read_state())
    yield from check_secrets(settings)
    yield from _unset(settings)


def check_secrets(settings: Settings) -> Iterator[Finding]:
    """Check the API key against the upstream, and the form of the other secrets."""
    yield from check_upstream(settings)
    yield from _secret(settings)
    yield from _short_secrets(settings)


def _settings(settings: Settings) -> Iterator[Finding]:
    for name in ("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY", "HEADSHOTPRO_WEBHOOK_SECRET"):
        if getattr(settings, name.lower()) is not None:
            yield Finding(name, ok=True, seen="set")
        elif name == "HEADSHOTPRO_WEBHOOK_SECRET":
            # No fault: a mirror that only pulls is right, and older.
            seen = "missing: the webhook endpoint is closed (503), and the mirror follows by pulls alone"
            yield Finding(name, ok=True, seen=seen, advice=f"set {name} to receive webhooks")
        else:
            yield Finding(name, ok=False, seen="missing", advice=f"set {name} in the environment or in .env")


def _postgres(settings: Settings) -> Iterator[Finding]:
    if settings.database_url is None:
        return
    engine = database.connect(settings.postgres_url)
    try:
        with database.transaction(engine) as connection:
            version, now = server_info(connection)
            database.require_writes(connection)
        old = int(version.split(".")[0]) < 14
        yield Finding("postgres", not old, f"version {version}", "Postgres 14 or newer is needed" if old else "")
        yield _skew("postgres clock", now - datetime.now(UTC))
        yield Finding("schema", ok=True, seen=f"revision {revision.check(engine)}")
    except PostgresUnavailable as error:
        yield Finding(
            "postgres", ok=False, seen=str(error), advice="start Postgres, let it write, or correct DATABASE_URL"
        )
    except SchemaOutdated as error:
        yield Finding("schema", ok=False, seen=str(error), advice=error.action)
    finally:
        engine.dispose()


def _redis(settings: Settings) -> Iterator[Finding]:
    if settings.redis_url is None:
        return
    client = None
    try:
        client = connect_redis(settings.redis)
        for fault, advice in wrong_keys(client).items():
            yield Finding("redis key", ok=False, seen=fault, advice=advice)
        durable_settings = durability.read_durability(client)
        capacity = durability.capacity(client, settings.inbox_limit)
        with translate_redis_errors():
            now: Any = client.time()
    except ClusterRefused as error:
        yield Finding("redis", ok=False, seen=str(error), advice="lead REDIS_URL to one primary, or to Sentinels")
        return
    except WrongKeyType:
        # It was named above.
        return
    except RedisUnavailable as error:
        yield Finding("redis", ok=False, seen=str(error), advice="start Redis, or correct REDIS_URL")
        return
    finally:
        if client:
            client.close()
    yield Finding(
        "redis",
        not durable_settings.misconfigurations,
        durable_settings.summary,
        "; ".join(durable_settings.misconfigurations),
    )
    yield Finding("inbox", not capacity.warning, f"{capacity.events} events wait", capacity.warning)
    yield _skew("redis clock", datetime.fromtimestamp(now[0] + now[1] / 1e6, UTC) - datetime.now(UTC))


def _mirror(state: MirrorState) -> Iterator[Finding]:
    """The processes, and every problem of `status` that no other check shows."""
    problems = [problem for problem in state.problems if problem.code not in SERVER_CODES]
    for problem in problems:
        yield Finding(problem.code, ok=False, seen=problem.message, advice=problem.action)
    if state.processes is not None and not any(problem.code.endswith("_missing") for problem in problems):
        counted = ", ".join(f"{number} {kind}" for kind, number in sorted(count_alive(state.facts).items()))
        yield Finding("processes", ok=True, seen=f"{counted} sent a heartbeat within {ALIVE_SECONDS:.0f} s")


def check_upstream(settings: Settings) -> Iterator[Finding]:
    """Check URL, API key and clock by one request, outside of the request budget."""
    if settings.headshotpro_api_key is None:
        return
    skews: list[timedelta | None] = []
    # Without the budget: Redis may be the server that is unavailable.
    client = UpstreamClient.from_settings(settings, None, observers=RequestObservers(clock=skews.append))
    try:
        response = client.organization(priority=Priority.REFETCH, max_wait=10)
    except KeyRejected as error:
        advice = "the key is wrong or was revoked: make a new one in HeadshotPro and set HEADSHOTPRO_API_KEY"
        yield Finding("api key", ok=False, seen=f"refused with {error.status} {error.code}", advice=advice)
    except UpstreamError as error:
        url = settings.headshotpro_api_url
        advice = f"{explain_url(url)}check that {url} can be reached from here"
        yield Finding("upstream", ok=False, seen=str(error), advice=advice)
    else:
        yield Finding("api key", ok=True, seen=f"belongs to organization {response.body.uid}")
    yield from map(_upstream_clock, skews[-1:])


def _upstream_clock(skew: timedelta | None) -> Finding:
    if skew is None:
        return Finding("upstream clock", ok=True, seen="not known: its responses have no Date")
    found = _skew("upstream clock", skew)
    if abs(skew) <= headers.MAX_SKEW:
        return found
    advice = f"{found.advice}; the mirror goes by this machine's clock as long as they are that far apart"
    return found._replace(advice=advice)


def _secret(settings: Settings) -> Iterator[Finding]:
    for place, secret in enumerate(settings.webhook_secrets, 1):
        well = len(secret) == SECRET_LENGTH and all(letter in "0123456789abcdef" for letter in secret)
        seen = "64 hex digits" if well else "not 64 lower-case hex digits, as HeadshotPro makes them"
        yield Finding(f"webhook secret {place}", well, seen, "" if well else "copy it from HeadshotPro once more")


def _short_secrets(settings: Settings) -> Iterator[Finding]:
    """A hint, no fault: a short password may be long enough for a trial on one machine."""
    given = [(f"key {one.name} of MIRROR_API_KEYS", one.key) for one in settings.api_keys]
    given += [
        (f"part {place} of HEADSHOTPRO_WEBHOOK_SECRET", one) for place, one in enumerate(settings.webhook_secrets, 1)
    ]
    # The vendor makes HEADSHOTPRO_API_KEY, so it cannot be made longer here.
    given += [(name, getattr(settings, name.lower()) or "") for name in ("CONSOLE_PASSWORD", "CONSOLE_VIEWER_PASSWORD")]
    short = [name for name, value in given if 0 < len(value) < SHORTEST_SECRET]
    if short:
        seen = f"under {SHORTEST_SECRET} characters: {', '.join(short)}"
        yield Finding("secrets", ok=True, seen=seen, advice="make longer ones, for example with `openssl rand -hex 24`")


def _unset(settings: Settings) -> Iterator[Finding]:
    """Hints about settings that are missing more often by oversight than on purpose."""
    if not settings.alert_urls:
        advice = "set ALERT_URLS to your chat, mail or pager, then try it with `headshot-mirror alerts test`"
        yield Finding("ALERT_URLS", ok=True, seen="missing: alerts are stored, and sent to no person", advice=advice)
    elif settings.public_url is None:
        advice = "set PUBLIC_URL to the address where people reach web"
        yield Finding("PUBLIC_URL", ok=True, seen="missing: notifications have no links", advice=advice)
    if not settings.mirror_api_keys:
        advice = "set MIRROR_API_KEYS to a key, made for example with `openssl rand -hex 24`"
        yield Finding("MIRROR_API_KEYS", ok=True, seen="missing: the API and /metrics are closed (401)", advice=advice)


def _skew(name: str, ahead: timedelta) -> Finding:
    seconds = ahead.total_seconds()
    well = abs(seconds) <= MOST_SKEW_SECONDS
    advice = "" if well else "run an NTP client on both machines: signatures and merges compare their clocks"
    # Adding 0.0 makes "+0.0" of "-0.0".
    return Finding(name, well, f"{round(seconds, 1) + 0.0:+.1f} s from this machine's", advice)
