"""The metrics by their names: counts, depths and figures in, Prometheus families out. Nothing here asks a server."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)

from service import __version__
from service.alerts.rules import KINDS
from service.broker import counters
from service.heartbeat import KINDS as PROCESSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from service.broker.durability import Room
    from service.storage.metrics_queries import Figures

    Values = Iterable[tuple[tuple[str, ...], float]]

STATUSES = ("onboarding", "waiting", "pending", "generatingHeadshots", "active", "failed", "deleted")
# A status is stored as it was sent, whatever it is; a label is kept for ever, and many of them are Prometheus' end.
_WORD = re.compile(r"[A-Za-z_]{1,40}")


class FromRedis(NamedTuple):
    """What Redis tells.

    Attributes:
        counts: of all processes, see `counters.read`.
        requests_left: how many requests the upstream's budget allows at this moment.
        room: how full the inbox is.
    """

    counts: Mapping[tuple[str, ...], float]
    requests_left: int
    room: Room


def families(redis: FromRedis | None, postgres: Figures | None) -> Iterator[Metric]:
    """Every family that can be told.

    Args:
        redis: None where it cannot be reached; what only it knows is left out then.
        postgres: the same.
    """
    info = {"version": __version__, "python": platform.python_version()}
    yield _gauge("build_info", "The code that answers", [(tuple(info.values()), 1)], *info)
    up = {("redis",): redis is not None, ("postgres",): postgres is not None}
    yield _gauge(
        "up", "Whether a server of ours answers; without it, what it knows is missing here", up.items(), "server"
    )
    if redis is not None:
        yield from _of_redis(redis)
    if postgres is not None:
        yield from _of_postgres(postgres)


class _Counted(NamedTuple):
    """A counter of `counters`.

    Attributes:
        name: without prefix and `_total`.
        words: its help.
        labels: their names.
        known: values of a single label that are told as 0 before the first one: Prometheus misses what appears as 1.
    """

    name: str
    words: str
    labels: tuple[str, ...]
    known: tuple[str, ...] = ()


_ANSWERS = ("accepted", "forged", "stale", "malformed", "too_large", "media_type", "unreadable", "unavailable")
_RESULTS = ("applied", "stale", "ignored", "dead", "repeated")
_COUNTERS = (
    _Counted(
        counters.DELIVERIES, "Deliveries at the door, by answer (stale: rightly signed, too old)", ("answer",), _ANSWERS
    ),
    _Counted(counters.EVENTS, "Processed events, by result (repeated: processed before)", ("result",), _RESULTS),
    _Counted(
        counters.UPSTREAM_REQUESTS,
        "Requests to the vendor, by route and HTTP status (unreachable: no answer)",
        ("route", "status"),
    ),
    _Counted(counters.BUDGET_WAITS, "How often a request found the budget spent, by what it was for", ("priority",)),
    _Counted(counters.BUDGET_WAIT_SECONDS, "Seconds that requests waited for the budget, by what for", ("priority",)),
    _Counted(
        counters.REFUSED_KEYS,
        "Calls of the API and /metrics without a key of ours (limited: past ten wrong ones a minute from an address)",
        ("reason",),
        ("missing", "wrong", "limited"),
    ),
)


def _of_redis(redis: FromRedis) -> Iterator[Metric]:
    for counted in _COUNTERS:
        values: dict[tuple[str, ...], float] = {(value,): 0.0 for value in counted.known}
        values |= {key[1:]: value for key, value in redis.counts.items() if key[0] == counted.name}
        yield _counter(counted.name, counted.words, values.items(), *counted.labels)
    yield _histogram(redis.counts, counters.EVENT_TO_ROW, "From the door to the row, in seconds")
    yield _single("inbox_events", "Events in the inbox that are not applied yet", redis.room.depth.events)
    yield _single("inbox_limit_events", "From so many on, deliveries go to Postgres", redis.room.limit)
    if redis.room.memory is not None:
        yield _single("redis_memory_ratio", "Share of Redis' maxmemory that is in use", redis.room.memory)
    oldest = redis.room.depth.oldest_seconds or 0
    yield _single("inbox_oldest_seconds", "Age of the oldest event in the inbox; 0: it is empty", oldest)
    yield _single(
        "upstream_requests_left", "Requests to the vendor that could be sent at this moment", redis.requests_left
    )


def _of_postgres(told: Figures) -> Iterator[Metric]:
    now = told.now
    yield _gauge("models", "Models in the mirror, by status", _by_label(now.models).items(), "status")
    alerts = {(kind,): 0 for kind in KINDS} | {(kind,): number for kind, number in told.open_alerts.items()}
    yield _gauge("alerts_open", "Alerts that are not resolved, by kind", alerts.items(), "kind")
    processes = {(kind,): 0 for kind in PROCESSES} | {(kind,): number for kind, number in told.processes.items()}
    yield _gauge("processes", "Processes that sent a heartbeat within 20 s, by kind", processes.items(), "kind")
    if now.pull_age_seconds is not None:
        yield _single("pull_age_seconds", "Since the last complete full pull ended", now.pull_age_seconds)
    yield _single("spool_events", "Deliveries that wait in Postgres", now.spooled_events)
    yield _single("spool_oldest_seconds", "Age of the oldest of them; 0: none waits", now.oldest_spooled_seconds or 0)
    yield _single("questions_open", "Questions that only a GET answers, still to be asked", now.open_questions)
    yield _single("dead_events", "Events that could not be applied and wait for a person", told.dead_events)
    yield from _of_pulls(told)


def _by_label(models: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    """Models by statuses that may stand in a label: the known ones, and new ones of the vendor's that are a word."""
    found: dict[tuple[str, ...], float] = {(status,): 0 for status in STATUSES}
    for status, number in models.items():
        label = (status if _WORD.fullmatch(status) else "other",)
        found[label] = found.get(label, 0) + number
    return found


def _of_pulls(told: Figures) -> Iterator[Metric]:
    by_status = {(pull.kind, status): number for pull in told.pulls for status, number in pull.by_status.items()}
    yield _gauge("pulls", "Pulls that are kept, by kind and status", by_status.items(), "kind", "status")
    seconds = SummaryMetricFamily("headshotpro_pull_duration_seconds", "How long complete pulls took", labels=["kind"])
    for pull in told.pulls:
        seconds.add_metric([pull.kind], count_value=pull.complete, sum_value=pull.seconds)
    yield seconds
    pages = {(pull.kind,): pull.pages for pull in told.pulls}
    yield _counter("pull_pages", "Pages that pulls read", pages.items(), "kind")
    changes = {(pull.kind,): pull.changes for pull in told.pulls}
    yield _counter("pull_changes", "Rows that pulls inserted, changed or tombstoned", changes.items(), "kind")
    missed = {(pull.kind,): pull.missed_webhooks for pull in told.pulls}
    yield _counter("missed_webhooks", "Changes that pulls found and no webhook had announced", missed.items(), "kind")


def _gauge(name: str, words: str, values: Values, *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"headshotpro_{name}", words, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def _counter(name: str, words: str, values: Values, *labels: str) -> CounterMetricFamily:
    family = CounterMetricFamily(f"headshotpro_{name}", words, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def _single(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"headshotpro_{name}", words, value=value)


def _histogram(counts: Mapping[tuple[str, ...], float], name: str, words: str) -> HistogramMetricFamily:
    """A histogram out of the counts of its buckets, each of which holds what lies between two ends."""
    buckets: list[tuple[str, float]] = []
    for end in [*(f"{end:g}" for end in counters.BUCKETS), "+Inf"]:
        below = buckets[-1][1] if buckets else 0.0
        buckets.append((end, below + counts.get((name, end), 0.0)))
    return HistogramMetricFamily(
        f"headshotpro_{name}", words, buckets=buckets, sum_value=counts.get((name, counters.SUM), 0.0)
    )
