"""Notifications: one message for all alerts of a window, a line for each alert, in the order of time. Pure.

Ids, counts and commands; a model's title only where it is passed in.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from service.alerts.kinds import KINDS, MODEL_FAILED, MODEL_KINDS, TOMBSTONES_HELD
from service.alerts.links import Links
from service.alerts.problems import LocalUp, fit_to_up
from service.alerts.texts import COMMAND, alert_texts, details, format_time
from service.plain_text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

# This many alerts of one kind have a line; the others are counted.
MAX_IDS_SHOWN = 5

Tone = Literal["failure", "warning", "success", "info"]

_BY_SEVERITY = ("opened", "reminder", "resolved")


class NotificationItem(NamedTuple):
    """One notification in a message.

    Attributes:
        reason: `opened`, `resolved`, `reminder` or `first_summary`.
        at: when it was written.
        alert_id: the alert; None for the first summary.
        still_open: whether the alert is open and not acknowledged.
        opened_at: when the alert opened.
        detail: what was found when the alert opened. Of the first summary: `failed` and `stuck` (counts),
            `failed_ids` and `stuck_ids` (the first few).
    """

    reason: str
    at: datetime
    alert_id: int | None = None
    kind: str = ""
    model_id: str | None = None
    still_open: bool = True
    opened_at: datetime | None = None
    detail: Mapping[str, Any] | None = None


class Message(NamedTuple):
    """A message for a receiver: a line, a text, and its severity."""

    title: str
    body: str
    tone: Tone


class Context(NamedTuple):
    """Text beside the alerts of a message.

    Attributes:
        titles: model id to its title; empty where names are not to be shown.
        links: the addresses of this deployment.
        organization: the mirrored one; empty before the first full pull.
        local: the `up` that runs this deployment.
    """

    titles: Mapping[str, str] = {}
    links: Links = Links()
    organization: str = ""
    local: LocalUp | None = None


def compose(items: Sequence[NotificationItem], context: Context) -> Message | None:
    """One message for all of the items.

    Returns:
        None where every item is obsolete: reminders of alerts that have ended since.
    """
    relevant = _relevant(items)
    if not relevant:
        return None
    past = [item for item in relevant if item.reason == "first_summary"]
    heads = _heads(relevant)
    sections = ["\n".join(_lines(relevant, context))] if heads else []
    if past:
        heads.append("models that had failed or were stuck before the mirror started")
        sections += [_past_section(item.detail or {}, context.titles) for item in past]
    sections += filter(None, ["\n".join(_advice(relevant, context)), _details_section(context)])
    return Message(f"headshot-mirror: {'; '.join(heads)}", "\n\n".join(sections), _tone(relevant))


def ids_to_show(items: Iterable[NotificationItem]) -> list[str]:
    """The models that a message may name, whose titles are worth reading: the first few of each group."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in items:
        ids = [item.model_id] if item.model_id else []
        if item.reason == "first_summary" and item.detail:
            ids += [*item.detail.get("failed_ids", ()), *item.detail.get("stuck_ids", ())]
        groups.setdefault((item.reason, item.kind), []).extend(ids)
    return sorted({model_id for ids in groups.values() for model_id in ids[: 2 * MAX_IDS_SHOWN]})


def build_test_message(now: datetime, links: Links, *, show_names: bool) -> Message:
    """The message of `alerts test`: alerts that are made up, in the form of real ones."""
    before, model = now - timedelta(minutes=5), f"{1:024x}"
    held = NotificationItem("opened", now, 3, TOMBSTONES_HELD, opened_at=now, detail={"pulls": [18]})
    made_up = compose(
        [
            NotificationItem("opened", before, 2, MODEL_FAILED, model, opened_at=before),
            held._replace(reason="resolved", at=before, alert_id=1, still_open=False, detail={"pulls": [17]}),
            held,
        ],
        Context({model: "A Title"} if show_names else {}, links, "An Organization (org_1)"),
    )
    assert made_up is not None, "it contains an alert that is open"
    title = made_up.title.replace("headshot-mirror: ", "headshot-mirror: a test: ", 1)
    body = f"This is a test: alerts of headshot-mirror arrive here. Those below are made up.\n\n{made_up.body}"
    return Message(title, body, "info")


def _relevant(items: Sequence[NotificationItem]) -> list[NotificationItem]:
    """Each alert once for each reason, in the order of time; reminders only of alerts that are not reported as opened.

    A reminder of an alert that is not open any more is left out.
    """
    opened = {item.alert_id for item in items if item.reason == "opened"}
    relevant: dict[tuple[str, int | None], NotificationItem] = {}
    for item in items:
        if item.reason != "reminder" or (item.still_open and item.alert_id not in opened):
            relevant[item.reason, item.alert_id] = item
    return sorted(relevant.values(), key=lambda item: item.at)


def _heads(relevant: Sequence[NotificationItem]) -> list[str]:
    """The parts of the title, the gravest first. Of a kind about the mirror only its last state is in it."""
    last = {item.kind: item.reason for item in relevant}
    kinds = _kinds(relevant)
    heads = []
    for reason in _BY_SEVERITY:
        for kind in kinds:
            number = sum((item.reason, item.kind) == (reason, kind) for item in relevant)
            if number and (kind in MODEL_KINDS or last[kind] == reason):
                heads.append(_head(reason, kind, number))
    return heads


def _kinds(items: Sequence[NotificationItem]) -> Sequence[str]:
    """All kinds; newer code, which runs beside this one during a deploy, may open alerts of others."""
    return (*KINDS, *sorted({item.kind for item in items if item.kind} - {*KINDS}))


def _head(reason: str, kind: str, number: int) -> str:
    one, many = alert_texts(kind).resolved if reason == "resolved" else alert_texts(kind).opened
    text = one if number == 1 else many.format(number)
    return f"still open: {text}" if reason == "reminder" else text


def _lines(relevant: Sequence[NotificationItem], context: Context) -> list[str]:
    """A line for each alert, the oldest first; the first few of each kind, and how many more there are."""
    groups: dict[tuple[str, str], list[NotificationItem]] = {}
    for item in relevant:
        groups.setdefault((item.reason, item.kind), []).append(item)
    shown: list[tuple[datetime, str]] = []
    for (reason, kind), group in groups.items():
        if reason == "first_summary":
            continue
        shown += [(item.at, _line(item, context)) for item in group[:MAX_IDS_SHOWN]]
        if others := group[MAX_IDS_SHOWN:]:
            head = _head(reason, kind, len(group))
            shown.append((others[0].at, f"{format_time(others[0].at)}  and {len(others)} more: {head}"))
    return [line for _at, line in sorted(shown, key=lambda one: one[0])]


def _line(item: NotificationItem, context: Context) -> str:
    """An alert: when, what happened, to which model, pull, event or organization, and the page about it."""
    text = _head("resolved" if item.reason == "resolved" else "opened", item.kind, 1).removeprefix("1 ")
    if item.reason == "reminder":
        since = f" since {format_time(item.opened_at)}" if item.opened_at else ""
        text = f"still open{since}: {text}"
    subject = _model(item.model_id, context.titles) if item.model_id else details(item.kind, item.detail or {})
    parts = (text, f": {subject}" if subject else "", f"  {page}" if (page := _page(item, context.links)) else "")
    return f"{format_time(item.at)}  {''.join(parts)}"


def _page(item: NotificationItem, links: Links) -> str | None:
    """The console's page about what an alert is about, else about the alert."""
    detail = item.detail or {}
    if item.model_id:
        return links.page("models", item.model_id)
    if pulls := detail.get("pulls"):
        return links.page("pulls", pulls[0])
    if events := detail.get("event_ids"):
        return links.page("events", events[0])
    return None if item.alert_id is None else links.page("alerts", item.alert_id)


def _model(model_id: str, titles: Mapping[str, str]) -> str:
    return f"{one_line(model_id)} ({_name(titles[model_id])})" if model_id in titles else one_line(model_id)


def _advice(relevant: Sequence[NotificationItem], context: Context) -> list[str]:
    """The action for each kind that is open, and the runbook's section about it."""
    last = {(item.kind, item.model_id): item.reason for item in relevant if item.kind}
    still = {kind for (kind, _), reason in last.items() if reason != "resolved"}
    hints = {kind: fit_to_up(kind, alert_texts(kind).hint, context.local) for kind in _kinds(relevant) if kind in still}
    lines = [f"{kind}: {hint}\n  {context.links.section(kind)}" for kind, hint in hints.items()]
    return ["What to do:", *lines] if lines else []


def _details_section(context: Context) -> str:
    lines = [f"Organization: {one_line(context.organization)}"] if context.organization else []
    links = context.links
    address = f"{links.web}/console/" if links.console else f"{links.web}/"
    return "\n".join([*lines, f"Details: {COMMAND}", *([f"This mirror: {address}"] if links.web else [])])


def _listed(ids: Sequence[str], number: int, titles: Mapping[str, str]) -> list[str]:
    """The first few ids, a line each, and how many more there are."""
    lines = [f"  {_model(model_id, titles)}" for model_id in ids[:MAX_IDS_SHOWN]]
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
