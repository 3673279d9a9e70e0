"""The metrics by their names: counts, depths and figures in, Prometheus families out. Nothing here asks a server."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)

from service import __version__
from service.alerts.kinds import KINDS
from service.broker import counters
from service.heartbeat import KINDS as PROCESSES
from service.model_fields import STATUSES
from service.process_identity import ALIVE_SECONDS
from service.storage.subscriptions import ACTIVE, DISABLED, FAILING, PAUSED
from service.subscriptions.receiver import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from service.broker.durability import RedisFigures
    from service.storage.metrics_queries import MetricsData

    Values = Iterable[tuple[tuple[str, ...], float]]

# A status is stored as it was sent, whatever it is; a label is kept for ever, and many of them are Prometheus' end.
_LABEL_SAFE = re.compile(r"[A-Za-z_]{1,40}")


def families(redis: RedisFigures | None, postgres: MetricsData | None) -> Iterator[Metric]:
    """Every family whose source can be read; None is a server that cannot be reached."""
    info = {"version": __version__, "python": platform.python_version()}
    yield _gauge("build_info", "The code that responds", [(tuple(info.values()), 1)], *info)
    up = {("redis",): redis is not None, ("postgres",): postgres is not None}
    yield _gauge(
        "up", "1 while Postgres or Redis responds; without it, its figures are missing here", up.items(), "server"
    )
    if redis is not None:
        yield from _redis_families(redis)
    if postgres is not None:
        yield from _postgres_families(postgres)


class _CounterSpec(NamedTuple):
    """A counter of `counters`.

    Attributes:
        name: without prefix and `_total`.
        help_text: its help.
        labels: their names.
        known: values of a single label that are 0 before the first one: Prometheus misses a counter that begins with 1.
    """

    name: str
    help_text: str
    labels: tuple[str, ...]
    known: tuple[str, ...] = ()


_ANSWERS = ("accepted", "forged", "stale", "malformed", "too_large", "media_type", "unreadable", "unavailable")
_RESULTS = ("applied", "stale", "ignored", "dead", "repeated")
_COUNTERS = (
    _CounterSpec(
        counters.DELIVERIES,
        "Deliveries at the endpoint, by response (stale: rightly signed, too old)",
        ("answer",),
        _ANSWERS,
    ),
    _CounterSpec(counters.EVENTS, "Processed events, by result (repeated: processed before)", ("result",), _RESULTS),
    _CounterSpec(
        counters.UPSTREAM_REQUESTS,
        "Requests to the vendor, by route and HTTP status (unreachable: no response)",
        ("route", "status"),
    ),
    _CounterSpec(counters.BUDGET_WAITS, "How often a request found the budget spent, by its priority", ("priority",)),
    _CounterSpec(
        counters.BUDGET_WAIT_SECONDS, "Seconds that requests waited for the budget, by their priority", ("priority",)
    ),
    _CounterSpec(
        counters.REFUSED_KEYS,
        "Calls of the API and /metrics without a right key (limited: past ten wrong ones a minute from an address)",
        ("reason",),
        ("missing", "wrong", "limited"),
    ),
    _CounterSpec(
        counters.SUBSCRIPTION_REQUESTS,
        "Requests to subscriptions, by outcome (no_response: none within 15 s, or no connection)",
        ("outcome",),
        OUTCOMES,
    ),
)


def _redis_families(redis: RedisFigures) -> Iterator[Metric]:
    for counted in _COUNTERS:
        values: dict[tuple[str, ...], float] = {(value,): 0.0 for value in counted.known}
        values |= {key[1:]: value for key, value in redis.counts.items() if key[0] == counted.name}
        yield _counter(counted.name, counted.help_text, values.items(), *counted.labels)
    yield _histogram(redis.counts, counters.EVENT_TO_ROW, "From the endpoint to the row, in seconds")
    yield _histogram(
        redis.counts, counters.SUBSCRIPTION_LATENCY, "From the row to a subscription's acknowledgement, in seconds"
    )
    oldest = redis.capacity.depth.oldest_seconds or 0
    yield from _plain_gauges(
        ("inbox_events", "Events in the inbox that are not applied yet", redis.capacity.depth.events),
        ("inbox_limit_events", "From this number on, deliveries go to Postgres", redis.capacity.limit),
        ("redis_memory_ratio", "Share of Redis' maxmemory that is in use", redis.capacity.memory),
        ("inbox_oldest_seconds", "Age of the oldest event in the inbox; 0: it is empty", oldest),
        ("upstream_requests_left", "Requests to the vendor that could be sent at this moment", redis.requests_left),
    )


def _postgres_families(postgres: MetricsData) -> Iterator[Metric]:
    now = postgres.now
    yield _gauge("models", "Models in the mirror, by status", _models_by_status(now.models).items(), "status")
    alerts = {(kind,): 0 for kind in KINDS} | {(kind,): number for kind, number in postgres.open_alerts.items()}
    yield _gauge("alerts_open", "Alerts that are not resolved, by kind", alerts.items(), "kind")
    processes = {(kind,): 0 for kind in PROCESSES} | {(kind,): number for kind, number in postgres.processes.items()}
    yield _gauge(
        "processes", f"Processes that sent a heartbeat within {ALIVE_SECONDS:.0f} s, by kind", processes.items(), "kind"
    )
    yield from _plain_gauges(
        ("pull_age_seconds", "Since the last complete full pull ended", now.pull_age_seconds),
        ("spool_events", "Deliveries that wait in Postgres", now.spooled_events),
        ("spool_oldest_seconds", "Age of the oldest of them; 0: none waits", now.oldest_spooled_seconds or 0),
        ("refetch_requests_open", "Refetch requests whose GET is still to be sent", now.open_refetches),
        ("dead_events", "Events that could not be applied and wait for a person", postgres.dead_events),
    )
    yield from _pull_families(postgres)
    yield from _lag_families(postgres.lags)
    yield from _accuracy_families(postgres.accuracy)
    yield from _subscription_families(postgres.subscriptions)


def _models_by_status(models: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    """Models by statuses that may be a label: the known ones, and new ones of the vendor's that are a word."""
    found: dict[tuple[str, ...], float] = {(status.name,): 0 for status in STATUSES}
    for status, number in models.items():
        label = (status if _LABEL_SAFE.fullmatch(status) else "other",)
        found[label] = found.get(label, 0) + number
    return found


def _pull_families(postgres: MetricsData) -> Iterator[Metric]:
    by_status = {
        (pull["kind"], status): number for pull in postgres.pulls for status, number in pull["by_status"].items()
    }
    yield _gauge("pulls", "Pulls that are kept, by kind and status", by_status.items(), "kind", "status")
    seconds = SummaryMetricFamily("headshotpro_pull_duration_seconds", "How long complete pulls took", labels=["kind"])
    for pull in postgres.pulls:
        seconds.add_metric([pull["kind"]], count_value=pull["complete"], sum_value=pull["seconds"])
    yield seconds
    pages = {(pull["kind"],): pull["pages"] for pull in postgres.pulls}
    yield _counter("pull_pages", "Pages that pulls read", pages.items(), "kind")
    changes = {(pull["kind"],): pull["changes"] for pull in postgres.pulls}
    yield _counter("pull_changes", "Rows that pulls inserted, changed or tombstoned", changes.items(), "kind")
    missed = {(pull["kind"],): pull["missed_webhooks"] for pull in postgres.pulls}
    yield _counter("missed_webhooks", "Changes that pulls found whose webhook was late or lost", missed.items(), "kind")
    lost = {(pull["kind"],): pull["lost_webhooks"] for pull in postgres.pulls}
    yield _counter("lost_webhooks", "Those of them whose webhook was lost", lost.items(), "kind")


# Each gauge of a period and of the list's fields or the details, with its column in the view `accuracy`.
_ACCURACY_GAUGES = (
    ("accuracy_rate", "Share of compared rows that were wrong for ten seconds or longer", "rate"),
    ("accuracy_rate_lower", "Lower 95 % bound of it", "lower_95"),
    ("accuracy_rate_upper", "Upper 95 % bound of it", "upper_95"),
    ("accuracy_target", "ACCURACY_SLO: highest acceptable share", "slo_target"),
    ("accuracy_unexplained", "Differences that are the mirror's own fault", "unexplained"),
)
_QUANTILES = {"0.5": "p50", "0.95": "p95", "0.99": "p99"}


def _accuracy_families(figures: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    by_key = {(row["period"], row["fields"]): row for row in figures}
    for name, help_text, column in _ACCURACY_GAUGES:
        values = {key: row[column] for key, row in by_key.items() if row[column] is not None}
        yield _gauge(name, help_text, values.items(), "period", "fields")
    stale = {
        (*key, label): row[f"stale_{column}"]
        for key, row in by_key.items()
        for label, column in {**_QUANTILES, "1": "max"}.items()
        if row[f"stale_{column}"] is not None
    }
    help_text = "How long wrong rows were wrong, in seconds; quantile 1 is the longest"
    yield _gauge("accuracy_stale_seconds", help_text, stale.items(), "period", "fields", "quantile")
    times = {key: row["computed_at"].timestamp() for key, row in by_key.items()}
    yield _gauge("accuracy_computed_timestamp_seconds", "When these were computed", times.items(), "period", "fields")


def _lag_families(lags: Mapping[str, float | None]) -> Iterator[Metric]:
    for name, help_text in (
        ("event_lag", "Seconds from the receipt of an event to its row, of the last hour"),
        ("delivery_lag", "Seconds from an event at the vendor to its receipt, of the last hour"),
    ):
        found = {(label,): lags.get(f"{name}_{column}") for label, column in _QUANTILES.items()}
        values = {key: value for key, value in found.items() if value is not None}
        yield _gauge(f"{name}_seconds", help_text, values.items(), "quantile")


def _subscription_families(subscriptions: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """The metrics of subscriptions, of which there are 100 at most, so a name may be a label."""
    states = {
        (one["name"], state): float(one["state"] == state)
        for one in subscriptions
        for state in (ACTIVE, PAUSED, FAILING, DISABLED)
    }
    help_text = "1 for the state that a subscription is in"
    yield _gauge("subscription_state", help_text, states.items(), "subscription", "state")
    waiting = {(one["name"],): one["waiting"] for one in subscriptions}
    help_text = "Changes that were read for it and that it has not acknowledged"
    yield _gauge("subscription_changes_waiting", help_text, waiting.items(), "subscription")
    unread = {(one["name"],): one["unread"] for one in subscriptions}
    help_text = "How far its reading is behind the feed, in ids"
    yield _gauge("subscription_changes_unread", help_text, unread.items(), "subscription")
    oldest = {(one["name"],): one["oldest_seconds"] for one in subscriptions}
    help_text = "Age of the first change that it has not acknowledged; 0: there is none"
    yield _gauge("subscription_oldest_seconds", help_text, oldest.items(), "subscription")
    delivered = {(one["name"],): one["delivered"] for one in subscriptions}
    yield _counter("subscription_changes", "Changes that it acknowledged", delivered.items(), "subscription")


def _gauge(name: str, help_text: str, values: Values, *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"headshotpro_{name}", help_text, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def _counter(name: str, help_text: str, values: Values, *labels: str) -> CounterMetricFamily:
    family = CounterMetricFamily(f"headshotpro_{name}", help_text, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def _plain_gauges(*gauges: tuple[str, str, float | None]) -> Iterator[GaugeMetricFamily]:
    """Gauges without labels: names, helps and values; one whose value is not known is left out."""
    for name, help_text, value in gauges:
        if value is not None:
            yield GaugeMetricFamily(f"headshotpro_{name}", help_text, value=value)


def _histogram(counts: Mapping[tuple[str, ...], float], name: str, help_text: str) -> HistogramMetricFamily:
    """A histogram out of the counts of its buckets, each of which holds the values between two ends."""
    buckets: list[tuple[str, float]] = []
    for end in [*(f"{end:g}" for end in counters.BUCKETS), "+Inf"]:
        below = buckets[-1][1] if buckets else 0.0
        buckets.append((end, below + counts.get((name, end), 0.0)))
    return HistogramMetricFamily(
        f"headshotpro_{name}", help_text, buckets=buckets, sum_value=counts.get((name, counters.SUM), 0.0)
    )
