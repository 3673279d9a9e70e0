"""Problems of the mirror, and what to do about each: facts in, problems out. Pure, but for `this_up`.

`status`, `doctor`, `up` and `HEARTBEAT_URL` all use this one function. The code of a problem is the
alert's kind where it has one. An alert that a person acknowledged, or that is about a model, is no problem of the
mirror. A missing process is a problem even where its alert is acknowledged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from service.alerts import texts
from service.alerts.kinds import API_REJECTED, MODEL_KINDS, PULL_FAILING, SIGNATURES_REFUSED, WORKER_MISSING
from service.alerts.rules import MISSING_AFTER, fails_for_long, refused_status
from service.config import run_by_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    from service.errors import SchemaOutdated
    from service.storage.pulls import FailingPull

POSTGRES_UNAVAILABLE = "postgres_unavailable"
REDIS_UNAVAILABLE = "redis_unavailable"
SCHEMA_OUTDATED = "schema_outdated"
INBOX_FULL = "inbox_full"
# These are about a server, which `doctor` checks by itself as well.
SERVER_CODES = (POSTGRES_UNAVAILABLE, REDIS_UNAVAILABLE, SCHEMA_OUTDATED)

OK = "OK"
STARTING = "starting"

API_PATH = "/api/v2"
# Where `up` has the log of what is missing.
_LOGS = {POSTGRES_UNAVAILABLE: "postgres/log", REDIS_UNAVAILABLE: "valkey/log"}
_LOGS |= {f"{kind}_missing": f"{kind}.log" for kind in ("web", "worker", "clock")}
# How the error of a pull begins that Postgres ended, and what to do. Those of older versions stay for a while.
_POSTGRES_ACTIONS = {
    re.compile(r"none of \d+ models|Postgres refused each"): (
        "select model_id, reason from headshotpro.set_aside where resolved_at is null"
    ),
    re.compile(r"another transaction holds a lock|Postgres ended a statement"): (
        "pg_locks and pg_stat_activity show what holds headshotpro.models up: an open transaction, or a slow trigger"
    ),
}


class Problem(NamedTuple):
    """Something that is wrong.

    Attributes:
        code: the alert's kind, or one of this module's codes, or `web_missing`, `clock_missing`.
        message: what is wrong, without personal data.
        action: what to do.
    """

    code: str
    message: str
    action: str


class LocalUp(NamedTuple):
    """The `up` that runs the system on this machine: it begins with everything missing.

    Attributes:
        folder: where its logs are.
        is_new: whether it has just started, so that processes may still be on their way to their first heartbeat.
        servers: those that it runs itself: `postgres`, `redis`.
    """

    folder: str
    is_new: bool
    servers: Sequence[str] = ("postgres", "redis")


class SeenProcess(NamedTuple):
    """A process that has a row in `processes`: its kind, its start, and its last heartbeat."""

    kind: str
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFacts:
    """The facts from which problems follow, as of one moment.

    Attributes:
        postgres: why Postgres cannot be used; empty where it can.
        redis: why Redis cannot be used.
        schema: why the schema cannot be used; None where it can.
        inbox: why Redis takes no event, though it can be reached.
        now: the moment, by Postgres' clock; None where that is not known.
        processes: all that have a row.
        expected: kinds of which one has to run.
        alerts: kinds of the open alerts that are not acknowledged.
        right_signature_at: when the last delivery with a right signature came, while wrong ones were refused.
        failing_pulls: the pulls that fail now, a full one first.
        api_url: HEADSHOTPRO_API_URL.
        pulled: whether a full pull was ever complete; None where that was not read.
        local: the `up` that runs the system; None where something else does.
    """

    postgres: str = ""
    redis: str = ""
    schema: SchemaOutdated | None = None
    inbox: str = ""
    now: datetime | None = None
    processes: Sequence[SeenProcess] = ()
    expected: Sequence[str] = ("web", "worker", "clock")
    alerts: Iterable[str] = ()
    right_signature_at: datetime | None = None
    failing_pulls: Sequence[FailingPull] = ()
    api_url: str = ""
    pulled: bool | None = None
    local: LocalUp | None = None


def problems(facts: ProblemFacts) -> list[Problem]:
    """Every problem, the gravest first."""
    upstream = list(_upstream_problems(facts))
    # The alert about a refused key says less.
    alerts = [found for found in _alert_problems(facts) if found.code not in {problem.code for problem in upstream}]
    found = [*_server_problems(facts), *_process_problems(facts), *upstream, *alerts]
    return [problem._replace(action=fit_to_up(problem.code, problem.action, facts.local)) for problem in found]


def verdict(facts: ProblemFacts, events_waiting: int | None) -> str:
    """The first line of `status`: `OK`, `starting`, or every problem in a few words and how many events wait.

    Under `up` it is `starting` while no full pull was ever complete, or a process has not sent its first heartbeat.
    """
    found = problems(facts)
    if not found:
        ready = facts.pulled is not False and all(count_alive(facts).values())
        return OK if ready or facts.local is None else STARTING
    waiting = [f"{events_waiting} events waiting"] if events_waiting else []
    return f"PROBLEM: {'; '.join([*(problem.message for problem in found), *waiting])}"


def count_alive(facts: ProblemFacts) -> dict[str, int]:
    """How many processes of each kind sent a heartbeat within the last `MISSING_AFTER`."""
    counted = dict.fromkeys(facts.expected, 0)
    for process in facts.processes:
        if _is_alive(process, facts.now):
            counted[process.kind] = counted.get(process.kind, 0) + 1
    return counted


def _server_problems(facts: ProblemFacts) -> Iterator[Problem]:
    if facts.postgres:
        yield Problem(
            POSTGRES_UNAVAILABLE,
            f"Postgres is unavailable: {facts.postgres}",
            "start Postgres, let it write, or correct DATABASE_URL; every process waits for it and goes on by itself",
        )
    if facts.redis:
        yield Problem(
            REDIS_UNAVAILABLE,
            f"Redis is unavailable: {facts.redis}",
            "start Redis, or correct REDIS_URL; every process waits for it and goes on by itself",
        )
    if facts.schema:
        yield Problem(SCHEMA_OUTDATED, str(facts.schema), facts.schema.action)
    if facts.inbox:
        yield Problem(
            INBOX_FULL,
            f"Redis takes no events ({facts.inbox}); deliveries are stored in Postgres",
            "are workers running? Raise Redis' maxmemory or INBOX_LIMIT; REDIS_URL has to lead to the primary",
        )


def _process_problems(facts: ProblemFacts) -> Iterator[Problem]:
    """Kinds that are missing. Where everything has just started, what was not seen yet is given its time."""
    if facts.now is None:
        return
    living = [process for process in facts.processes if _is_alive(process, facts.now)]
    starting = bool(living) and min(process.started_at for process in living) > facts.now - MISSING_AFTER
    starting = starting or bool(facts.local and facts.local.is_new)
    for kind in facts.expected:
        seen = [process.seen_at for process in facts.processes if process.kind == kind]
        if not seen and not starting:
            yield _missing(kind, f"no {kind} is running")
        elif seen and facts.now - max(seen) >= MISSING_AFTER and not starting:
            yield _missing(kind, f"no {kind} seen for {_format_duration(facts.now - max(seen))}")


def _missing(kind: str, message: str) -> Problem:
    return Problem(f"{kind}_missing", message, f"start `headshot-mirror {kind}`; its log says why it ended")


def explain_url(url: str) -> str:
    """A likely mistake in HEADSHOTPRO_API_URL, as a question; empty where there is none."""
    return "" if urlsplit(url).path.rstrip("/").endswith(API_PATH) else f"did you forget {API_PATH}? "


def _upstream_problems(facts: ProblemFacts) -> Iterator[Problem]:
    """A pull that fails: at once where none was complete since the workers started, for their settings may be wrong.

    Later the upstream may be unavailable for a moment, so it is a problem where it lasts; and the alert about a refused
    key is open then, for it is resolved by any response to the key.
    """
    relevant = (
        pull
        for pull in facts.failing_pulls
        if _is_first(pull, facts) or (fails_for_long(pull) and not refused_status(pull))
    )
    pull = next(relevant, None)
    if pull is None:
        return
    refused = refused_status(pull)
    if refused:
        yield Problem(
            API_REJECTED,
            f"HeadshotPro refuses the API key ({refused})",
            f"make a new key in HeadshotPro, set HEADSHOTPRO_API_KEY, and {texts.RESTART_UPSTREAM}",
        )
    else:
        yield Problem(
            PULL_FAILING,
            f"{'no full pull is complete' if _is_first(pull, facts) else f'{pull.kind} pulls fail'}: {pull.error}",
            _postgres_action(pull)
            or f"{explain_url(facts.api_url)}HEADSHOTPRO_API_URL is {facts.api_url}; `headshot-mirror doctor` tries it",
        )


def _postgres_action(pull: FailingPull) -> str | None:
    """What to do about a pull that Postgres ended; None where the upstream did."""
    return next((action for error, action in _POSTGRES_ACTIONS.items() if error.match(pull.error)), None)


def _is_first(pull: FailingPull, facts: ProblemFacts) -> bool:
    """Whether it is a full pull, and none was complete since the workers started."""
    if pull.kind != "full":
        return False
    started = [process.started_at for process in facts.processes if process.kind == "worker"]
    return pull.last_complete_at is None or bool(started and pull.last_complete_at <= max(started))


def _alert_problems(facts: ProblemFacts) -> Iterator[Problem]:
    """Open alerts. Whether a worker is missing is known better from its heartbeats."""
    covered = {WORKER_MISSING, *MODEL_KINDS}
    for kind in sorted(set(facts.alerts) - covered):
        alert_texts = texts.alert_texts(kind)
        action = texts.signatures_action(facts.right_signature_at) if kind == SIGNATURES_REFUSED else alert_texts.hint
        yield Problem(kind, alert_texts.opened[0], action)


def this_up() -> LocalUp | None:
    """The `up` that started this process; None where something else did."""
    given = run_by_up()
    return LocalUp(given[0], is_new=False, servers=given[1:]) if given else None


def fit_to_up(code: str, action: str, local: LocalUp | None) -> str:
    """The action about a problem where `up`, if any, runs the system: it starts processes and servers and migrates."""
    if local is None:
        return action
    if code == SCHEMA_OUTDATED:
        return "end `up` and run it again: it migrates"
    server = code.removesuffix("_unavailable")
    if code in _LOGS and (server == code or server in local.servers):
        return f"end `up` and run it again; {local.folder}/{_LOGS[code]} says why it ended"
    action = action.replace(texts.WORKER_LOG, f"{local.folder}/worker.log")
    for restart in (texts.RESTART_UPSTREAM, texts.RESTART_WEB, texts.RESTART_WORKER):
        action = action.replace(restart, "run `up` again")
    if action.startswith("set ") and "run `up` again" not in action:
        setting, then, rest = action.partition(", then ")
        action = f"{setting}, and run `up` again{then}{rest}"
    return action


def _is_alive(process: SeenProcess, now: datetime | None) -> bool:
    return now is not None and now - process.seen_at < MISSING_AFTER


def _format_duration(lasted: timedelta) -> str:
    """A duration for people."""
    seconds = int(lasted.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
