"""The metrics of subscriptions by their names. There are 100 subscriptions at most, so a name may be a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from service.storage.subscriptions import ACTIVE, DISABLED, FAILING, PAUSED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from service.storage.subscription_figures import SubscriptionFigures

STATES = (ACTIVE, PAUSED, FAILING, DISABLED)


def families(subscriptions: Sequence[SubscriptionFigures]) -> Iterator[Metric]:
    """Every family that is read from Postgres."""
    state = _gauge("state", "1 for the state that a subscription is in", "state")
    waiting = _gauge("changes_waiting", "Changes that it has not acknowledged, or that were not read for it yet")
    oldest = _gauge("oldest_seconds", "Age of the first change that it has not acknowledged; 0: there is none")
    delivered = CounterMetricFamily(
        "headshotpro_subscription_changes", "Changes that it acknowledged", labels=("subscription",)
    )
    for one in subscriptions:
        for name in STATES:
            state.add_metric((one.name, name), float(one.state == name))
        waiting.add_metric((one.name,), one.waiting + one.unread)
        oldest.add_metric((one.name,), one.oldest_seconds)
        delivered.add_metric((one.name,), one.delivered)
    yield from (state, waiting, oldest, delivered)


def _gauge(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"headshotpro_subscription_{name}", help_text, labels=("subscription", *labels))
