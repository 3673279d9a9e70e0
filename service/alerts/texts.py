"""The texts of each kind of alert, for notifications, `status` and `doctor`. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from service.alerts import kinds
from service.plain_text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COMMAND = "headshot-mirror alerts list"

# Under `up` other advice takes the place of these.
RESTART_WEB = "restart web"
RESTART_UPSTREAM = "restart worker and clock"
RESTART_WORKER = "restart the worker"
WORKER_LOG = "the worker's log"


class AlertTexts(NamedTuple):
    """The texts of a kind: when it opens and when it is resolved, one and many, and where to look first."""

    opened: tuple[str, str]
    resolved: tuple[str, str]
    hint: str


_ALERT_TEXTS = {
    kinds.MODEL_FAILED: AlertTexts(
        ("1 model failed", "{} models failed"),
        ("1 failed model is well again", "{} failed models are well again"),
        "the vendor did not get it running by itself; `headshot-mirror models show ID --explain`",
    ),
    kinds.MODEL_STUCK: AlertTexts(
        ("1 model is stuck", "{} models are stuck"),
        ("1 stuck model has moved on", "{} stuck models have moved on"),
        "it has been in one status for too long; `headshot-mirror models show ID --explain`",
    ),
    kinds.PULL_STALE: AlertTexts(
        ("no full pull has been complete for a while",) * 2,
        ("a full pull is complete again",) * 2,
        "headshot-mirror pulls list",
    ),
    kinds.PULL_FAILING: AlertTexts(
        ("pulls fail",) * 2,
        ("pulls succeed again",) * 2,
        "`headshot-mirror doctor` tries HEADSHOTPRO_API_URL and the key; if Postgres is the cause: set_aside, pg_locks",
    ),
    kinds.WEBHOOKS_MISSING: AlertTexts(
        ("webhooks are missing",) * 2,
        ("webhooks come again",) * 2,
        "pulls find changes without a webhook: are URL and secret in HeadshotPro right?",
    ),
    kinds.EVENTS_DEAD: AlertTexts(
        ("events could not be applied",) * 2,
        ("no event is dead any more",) * 2,
        "headshot-mirror events list --status dead",
    ),
    kinds.TOMBSTONES_HELD: AlertTexts(
        ("a pull waits for a person",) * 2,
        ("the pull no longer waits for a person",) * 2,
        "`headshot-mirror pulls list` shows why; "
        "`headshot-mirror pulls release ID` or `headshot-mirror pulls reject ID` decides it",
    ),
    kinds.ORGANIZATION_CHANGED: AlertTexts(
        ("the API key belongs to another organization, and no full pull runs",) * 2,
        ("the API key belongs to the mirrored organization again",) * 2,
        "put the right HEADSHOTPRO_API_KEY back, and `headshot-mirror pulls reject ID`; "
        "`headshot-mirror pulls list` names both organizations",
    ),
    kinds.API_REJECTED: AlertTexts(
        ("HeadshotPro refuses the API key",) * 2,
        ("HeadshotPro takes the API key again",) * 2,
        "headshot-mirror doctor",
    ),
    kinds.SIGNATURES_REFUSED: AlertTexts(
        ("deliveries are refused, because their signature is wrong",) * 2,
        ("a delivery with a right signature came after those that were refused",) * 2,
        "if none with a right signature comes meanwhile, set HEADSHOTPRO_WEBHOOK_SECRET to the secret of HeadshotPro's "
        f"admin pages, and {RESTART_WEB}; else someone else sends requests, or a secret is being rotated",
    ),
    kinds.WORKER_MISSING: AlertTexts(
        ("no worker is running",) * 2,
        ("a worker is running again",) * 2,
        "start `headshot-mirror worker`; events wait and nothing is lost",
    ),
    kinds.INBOX_STALLED: AlertTexts(
        ("events wait and none is applied",) * 2,
        ("events are applied again",) * 2,
        f"look for `drain` and `worker.child` in {WORKER_LOG}, then {RESTART_WORKER}: that loses no event",
    ),
    kinds.RECORDS_SET_ASIDE: AlertTexts(
        ("records of HeadshotPro could not be read, or Postgres refused them",) * 2,
        ("all records are read and written again",) * 2,
        "select * from headshotpro.set_aside where resolved_at is null",
    ),
    kinds.SUBSCRIPTION_FAILING: AlertTexts(
        ("a subscription cannot be delivered to",) * 2,
        ("every subscription is delivered to again",) * 2,
        "`headshot-mirror subscriptions show NAME` has the reason",
    ),
    kinds.CLOCK_SKEW: AlertTexts(
        ("HeadshotPro's clock and ours are more than a minute apart",) * 2,
        ("HeadshotPro's clock and ours agree again",) * 2,
        "is NTP running on the workers' machines? headshot-mirror doctor",
    ),
    kinds.MIRROR_INACCURATE: AlertTexts(
        ("more rows of the mirror were wrong than ACCURACY_SLO allows",) * 2,
        ("the mirror is as accurate again as ACCURACY_SLO demands",) * 2,
        "`headshot-mirror accuracy`; late and lost webhooks are the usual reason",
    ),
}


def alert_texts(kind: str) -> AlertTexts:
    """The texts of a kind; of one that only newer code knows, its name."""
    return _ALERT_TEXTS.get(kind) or AlertTexts((kind, kind), (f"{kind} has ended", f"{kind} has ended"), COMMAND)


def signatures_action(right_at: datetime | None) -> str:
    """What to do about wrong signatures; `right_at` is when the last delivery with a right one came meanwhile."""
    if right_at is None:
        return (
            "no delivery with a right signature comes meanwhile: if HEADSHOTPRO_WEBHOOK_SECRET is not the secret of "
            f"HeadshotPro's admin pages, set it, and {RESTART_WEB}"
        )
    return (
        f"deliveries with a right signature come, the last at {format_time(right_at)}: someone else sends requests; "
        f"or a secret is being rotated: then add the new one to HEADSHOTPRO_WEBHOOK_SECRET, and {RESTART_WEB}"
    )


def format_time(moment: datetime) -> str:
    """A time as the commands print it."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def details(kind: str, detail: Mapping[str, Any]) -> str:
    """The finding when an alert opened, from its column `detail`, maybe of an older version; empty if unknown."""
    try:
        return one_line(_DETAILS[kind](detail))
    except KeyError:
        # Newer code wrote another kind, or older code other details.
        return ""


def _pulls(detail: Mapping[str, Any]) -> str:
    numbers = detail["pulls"]
    return f"pull{'s' if len(numbers) > 1 else ''} {_listed(numbers)}"


def _events(detail: Mapping[str, Any]) -> str:
    number, ids = detail["events"], detail.get("event_ids", ())
    more = f" and {number - len(ids)} more" if number > len(ids) > 0 else ""
    return f"{number} event{'' if number == 1 else 's'}{': ' if ids else ''}{_listed(ids)}{more}"


def _records(detail: Mapping[str, Any]) -> str:
    models = detail["models"]
    return f"{detail['rows']} records or fields{', of models ' if models else ''}{_listed(models)}"


def _inaccuracy(detail: Mapping[str, Any]) -> str:
    unexplained = detail["unexplained"]
    if unexplained:
        return f"{unexplained} differences within 24 hours that an applied event does not explain"
    # An alert that an older version opened has no period.
    period = "28 days" if detail.get("period") == "28d" else "24 hours"
    return f"at least {detail['lower_95']:.4%} within {period}, the target is {detail['slo_target']:g}"


def _since(value: str | None, text: str, never: str) -> str:
    return text.format(format_time(datetime.fromisoformat(value))) if value else never


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


_DETAILS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    kinds.PULL_STALE: lambda detail: _since(
        detail["last_complete_at"], "the last one ended {}", "none was ever complete"
    ),
    kinds.PULL_FAILING: lambda detail: f"{detail['pull_kind']} pull, {detail['error']}",
    kinds.WEBHOOKS_MISSING: lambda detail: f"{detail['missed']} changes came without one, {detail['events']} with one",
    kinds.EVENTS_DEAD: _events,
    kinds.TOMBSTONES_HELD: _pulls,
    kinds.ORGANIZATION_CHANGED: lambda detail: "; ".join(filter(None, [_pulls(detail), detail.get("reason")])),
    kinds.API_REJECTED: lambda detail: f"status {detail['status']}",
    # An older version did not count the others.
    kinds.SIGNATURES_REFUSED: lambda detail: (
        f"{detail['within_a_minute']} within a minute"
        + (f", {detail['accepted']} others accepted" if "accepted" in detail else "")
    ),
    kinds.WORKER_MISSING: lambda detail: _since(detail["seen_at"], "last seen {}", "none was seen"),
    kinds.INBOX_STALLED: lambda detail: _since(detail["waiting_since"], "the oldest waits since {}", ""),
    kinds.RECORDS_SET_ASIDE: _records,
    kinds.MIRROR_INACCURATE: _inaccuracy,
    kinds.SUBSCRIPTION_FAILING: lambda detail: _listed(detail["subscriptions"]),
    kinds.CLOCK_SKEW: lambda detail: f"HeadshotPro's is {detail['seconds']:+g} s ahead",
}
