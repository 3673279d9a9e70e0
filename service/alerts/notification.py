"""The texts of notifications: one message for all alerts of a window. Pure.

Ids, counts and commands; a model's title only where it is passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from service.alerts.rules import (
    API_REJECTED,
    CLOCK_SKEW,
    EVENTS_DEAD,
    INBOX_STALLED,
    KINDS,
    MODEL_FAILED,
    MODEL_STUCK,
    ORGANIZATION_CHANGED,
    PULL_STALE,
    RECORDS_SET_ASIDE,
    SIGNATURES_REFUSED,
    TOMBSTONES_HELD,
    WEBHOOKS_MISSING,
    WORKER_MISSING,
)
from service.plain_text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# This many ids are listed; the others are counted.
MAX_IDS_SHOWN = 5
COMMAND = "headshot-mirror alerts list"

Tone = Literal["failure", "warning", "success", "info"]


class NotificationItem(NamedTuple):
    """One notification in a message.

    Attributes:
        reason: `opened`, `resolved`, `reminder` or `first_summary`.
        alert_id: the alert; None for the first summary.
        kind: the alert's kind.
        model_id: the model that it is about.
        still_open: whether the alert is open and not acknowledged.
        detail: of the first summary: `failed` and `stuck` (counts), `failed_ids` and `stuck_ids` (the first few).
    """

    reason: str
    alert_id: int | None = None
    kind: str = ""
    model_id: str | None = None
    still_open: bool = True
    detail: Mapping[str, Any] | None = None


class Message(NamedTuple):
    """A message for a receiver: a line, a text, and its severity."""

    title: str
    body: str
    tone: Tone


class AlertTexts(NamedTuple):
    """The texts of a kind: when it opens and when it is resolved, one and many, and where to look first."""

    opened: tuple[str, str]
    resolved: tuple[str, str]
    hint: str


_ALERT_TEXTS = {
    MODEL_FAILED: AlertTexts(
        ("1 model failed", "{} models failed"),
        ("1 failed model is well again", "{} failed models are well again"),
        "the vendor did not get it running by itself",
    ),
    MODEL_STUCK: AlertTexts(
        ("1 model is stuck", "{} models are stuck"),
        ("1 stuck model has moved on", "{} stuck models have moved on"),
        "it has been in one status for too long",
    ),
    PULL_STALE: AlertTexts(
        ("no full pull has been complete for a while", "no full pull has been complete for a while"),
        ("a full pull is complete again", "a full pull is complete again"),
        "headshot-mirror pulls list",
    ),
    WEBHOOKS_MISSING: AlertTexts(
        ("webhooks are missing", "webhooks are missing"),
        ("webhooks come again", "webhooks come again"),
        "pulls find changes without a webhook: are URL and secret in HeadshotPro right?",
    ),
    EVENTS_DEAD: AlertTexts(
        ("events could not be applied", "events could not be applied"),
        ("no event is dead any more", "no event is dead any more"),
        "headshot-mirror events list --status dead",
    ),
    TOMBSTONES_HELD: AlertTexts(
        ("a pull waits for a person", "a pull waits for a person"),
        ("no pull waits for a person any more", "no pull waits for a person any more"),
        "headshot-mirror pulls list",
    ),
    ORGANIZATION_CHANGED: AlertTexts(
        ("the API key belongs to another organization, and no full pull runs",) * 2,
        ("the API key belongs to the mirrored organization again",) * 2,
        "put the right HEADSHOTPRO_API_KEY back; headshot-mirror pulls list names both organizations",
    ),
    API_REJECTED: AlertTexts(
        ("HeadshotPro refuses the API key", "HeadshotPro refuses the API key"),
        ("HeadshotPro takes the API key again", "HeadshotPro takes the API key again"),
        "headshot-mirror doctor",
    ),
    SIGNATURES_REFUSED: AlertTexts(
        ("deliveries are refused, because their signature is wrong",) * 2,
        ("a delivery with a right signature came",) * 2,
        "set HEADSHOTPRO_WEBHOOK_SECRET to the secret of HeadshotPro's admin pages, and restart web",
    ),
    WORKER_MISSING: AlertTexts(
        ("no worker is running", "no worker is running"),
        ("a worker is running again", "a worker is running again"),
        "start `headshot-mirror worker`; events wait and nothing is lost",
    ),
    INBOX_STALLED: AlertTexts(
        ("events wait and none is applied", "events wait and none is applied"),
        ("events are applied again", "events are applied again"),
        "headshot-mirror status, then the worker's log",
    ),
    RECORDS_SET_ASIDE: AlertTexts(
        ("records of HeadshotPro could not be read", "records of HeadshotPro could not be read"),
        ("all records can be read again", "all records can be read again"),
        "select * from headshotpro.set_aside where resolved_at is null",
    ),
    CLOCK_SKEW: AlertTexts(
        ("HeadshotPro's clock and ours are more than a minute apart",) * 2,
        ("HeadshotPro's clock and ours agree again",) * 2,
        "is NTP running on the workers' machines? headshot-mirror doctor",
    ),
}
_BY_SEVERITY = ("opened", "reminder", "resolved")


def alert_texts(kind: str) -> AlertTexts:
    """The texts of a kind; of one that only newer code knows, its name."""
    return _ALERT_TEXTS.get(kind) or AlertTexts((kind, kind), (f"{kind} has ended", f"{kind} has ended"), COMMAND)


def compose(items: Sequence[NotificationItem], titles: Mapping[str, str], public_url: str | None) -> Message | None:
    """One message for all of the items.

    Args:
        items: the notifications that a receiver has not got yet, oldest first.
        titles: model id to its title; empty where names are not to be shown.
        public_url: where people reach the web process.

    Returns:
        None where every item is obsolete: reminders of alerts that have ended since.
    """
    relevant = _relevant(items)
    if not relevant:
        return None
    heads: list[str] = []
    sections: list[str] = []
    # Newer code, which runs beside this one during a deploy, may open alerts of other kinds.
    kinds = (*KINDS, *sorted({item.kind for item in relevant} - {*KINDS}))
    for reason in _BY_SEVERITY:
        for kind in kinds:
            group = [item for item in relevant if (item.reason, item.kind) == (reason, kind)]
            if group:
                heads.append(_head(reason, kind, len(group)))
                sections.append(_section(reason, kind, group, titles))
    for item in relevant:
        if item.reason == "first_summary":
            heads.append("models that had failed or were stuck before the mirror started")
            sections.append(_past_section(item.detail or {}, titles))
    hint = f"Details: {public_url.rstrip('/')}/" if public_url else f"Details: {COMMAND}"
    return Message(f"headshot-mirror: {'; '.join(heads)}", "\n\n".join((*sections, hint)), _tone(relevant))


def ids_to_show(items: Iterable[NotificationItem]) -> list[str]:
    """The models that a message may name, whose titles are worth reading: the first few of each group."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in items:
        ids = [item.model_id] if item.model_id else []
        if item.detail:
            ids += [*item.detail.get("failed_ids", ()), *item.detail.get("stuck_ids", ())]
        groups.setdefault((item.reason, item.kind), []).extend(ids)
    return sorted({model_id for ids in groups.values() for model_id in ids[: 2 * MAX_IDS_SHOWN]})


def build_test_message() -> Message:
    """The message of `alerts test`."""
    return Message("headshot-mirror: a test", "This is a test: alerts of headshot-mirror arrive here.", "info")


def _relevant(items: Sequence[NotificationItem]) -> list[NotificationItem]:
    """Each alert once for each reason; reminders only of alerts that are open and not reported as opened here."""
    opened = {item.alert_id for item in items if item.reason == "opened"}
    relevant: dict[tuple[str, int | None], NotificationItem] = {}
    for item in items:
        if item.reason != "reminder" or (item.still_open and item.alert_id not in opened):
            relevant[item.reason, item.alert_id] = item
    return list(relevant.values())


def _head(reason: str, kind: str, number: int) -> str:
    one, many = alert_texts(kind).resolved if reason == "resolved" else alert_texts(kind).opened
    text = one if number == 1 else many.format(number)
    return f"still open: {text}" if reason == "reminder" else text


def _section(reason: str, kind: str, group: Sequence[NotificationItem], titles: Mapping[str, str]) -> str:
    head = _head(reason, kind, len(group))
    hint = "" if reason == "resolved" else f" ({alert_texts(kind).hint})"
    ids = [item.model_id for item in group if item.model_id]
    return "\n".join([f"{head[0].upper()}{head[1:]}{hint}", *_listed(ids, len(ids), titles)])


def _listed(ids: Sequence[str], number: int, titles: Mapping[str, str]) -> list[str]:
    """The first few ids, a line each, and how many more there are."""
    lines = [
        f"  {one_line(model_id)} ({_name(titles[model_id])})" if model_id in titles else f"  {one_line(model_id)}"
        for model_id in ids[:MAX_IDS_SHOWN]
    ]
    return [*lines, f"  and {number - MAX_IDS_SHOWN} more"] if number > MAX_IDS_SHOWN else lines


def _name(title: str) -> str:
    """A title as part of a line; a zero-width space keeps `@everyone` in one from waking everyone."""
    return one_line(title).replace("@", "@\u200b")


def _past_section(detail: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    lines = ["Before the mirror started; none of these models opens an alert until its status changes:"]
    for name, text in (("failed", "failed already"), ("stuck", "in a status in which they may have been stuck")):
        number = detail.get(name, 0)
        if number:
            lines.append(f"{number} {text}")
            lines += _listed(detail.get(f"{name}_ids", ()), number, titles)
    return "\n".join(lines)


def _tone(relevant: Sequence[NotificationItem]) -> Tone:
    """As grave as the gravest of it."""
    kinds = {item.reason for item in relevant}
    tones: dict[str, Tone] = {
        "opened": "failure",
        "reminder": "warning",
        "first_summary": "info",
        "resolved": "success",
    }
    return next(tone for reason, tone in tones.items() if reason in kinds)
