"""The result of an act as sentences, from its row in the audit log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.errors import Throttled
from service.mirror.ask_now import ACTION as ASK
from service.mirror.erasure import ACTION as ERASE
from service.mirror.replay import ACTION as REPLAY
from service.storage.audit import BEGUN, DONE, FAILED, REFUSED, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

# Parts of the detail that the page of an act shows in a form of their own.
SHOWN = ("change", "differed", "disputed", "error", "receivers", "reason", "task", "nothing_left")
# The name of each act for people, and the sentence about one that was done.
_ACTS = {
    "alerts.acknowledge": ("Acknowledge alerts", "No reminders are sent any more."),
    "alerts.test": ("Send a test notification", "Every receiver took the message."),
    REPLAY: ("Replay events", "The events were merged again."),
    "model.create": ("Create a model", "It was done."),
    "model.delete": ("Delete a model", "The vendor deleted it, and the mirror has its tombstone."),
    ERASE: ("Erase personal data", "Its personal data is erased for good."),
    ASK: ("Ask the vendor now", "It was done."),
    "pull.reject": ("Reject a held pull", "The pull has failed, and its suspects are left alone for a day."),
    "pull.release": ("Release a held pull", "The pull was released."),
    "pull.start": ("Pull now", "A worker begins within seconds: the page Pulls shows it."),
    "task.cancel": ("Cancel a task", "What was done stays done."),
    "set_aside.resolve": ("Mark as resolved", "It opens again if the same is found."),
    "subscription.add": ("Add a subscription", "It is sent each change from now on."),
    "subscription.pause": ("Pause a subscription", "Nothing is sent to it until it is resumed."),
    "subscription.remove": ("Remove a subscription", "It was removed with all that waited for it."),
    "subscription.replay": ("Replay changes to a subscription", "Its changes are sent again."),
    "subscription.resume": ("Resume a subscription", "It is sent what waits for it."),
    "subscription.rotate": (
        "Rotate the secret of a subscription",
        "The new secret was shown once; for 24 hours the old one signs, too.",
    ),
    "subscription.test": ("Send a test request", "It acknowledged the test request."),
}
_OUTCOMES = {
    BEGUN: "It has not ended yet; or its process died, or could not reach Postgres any more: then it is not known "
    "whether it was done.",
    REFUSED: "The vendor refused it: nothing was changed there.",
    FAILED: "It failed.",
    UNKNOWN: "It was interrupted, or no response shows whether it was done: that is not known.",
}
_UNKNOWN = {
    ASK: "The vendor sent no response that can be used. Nothing was merged; a worker asks again.",
    ERASE: "It was interrupted. The model's page shows whether its personal data is erased; if not, erase it again.",
    "model.delete": "No response shows whether the vendor deleted the model. A worker asks about it within seconds, "
    "and the model's page shows what it finds.",
}
_FAILED = {
    "alerts.test": "Not every receiver took the message.",
    "subscription.test": "It did not acknowledge the test request.",
}


def title(row: Mapping[str, Any]) -> str:
    """The name of an act for people; that of the audit log where it has no other."""
    return _texts(row["action"])[0]


def _texts(action: str) -> tuple[str, str]:
    return _ACTS.get(action, (action, "It was done."))


def explain(row: Mapping[str, Any]) -> str:
    """A sentence or two about how an act ended."""
    action, outcome, detail = row["action"], row["outcome"], row["detail"] or {}
    if outcome == DONE:
        return _explain_done(action, detail)
    if outcome == BEGUN and "task" in detail:
        return "Workers do it: its page shows how far it is."
    if detail.get("error") == Throttled.__name__:
        return "Nothing was done: the request budget, or the vendor's limit, is spent. Try again in a minute."
    own = {UNKNOWN: _UNKNOWN, FAILED: _FAILED}.get(outcome, {})
    return own.get(action) or _OUTCOMES.get(outcome, "")


def _explain_done(action: str, detail: Mapping[str, Any]) -> str:
    if action == ASK:
        return _explain_asking(detail)
    if detail.get("nothing_left"):
        return "Nothing was left to erase: another act, or ERASE_AFTER_DAYS, came first."
    if action == ERASE and detail.get("cancelled"):
        return "It was cancelled: the model keeps its personal data, but for the bodies of events that were searched."
    if detail.get("cancelled"):
        return "It was cancelled. What was done stays done."
    if action == REPLAY and "after" in detail:
        changed = "" if "change" in detail else " No row was changed."
        return f"The event was merged again, and is {detail['after']}.{changed}"
    return _texts(action)[1]


def _explain_asking(detail: Mapping[str, Any]) -> str:
    if detail.get("found"):
        return "The vendor does not know this model (404). That alone proves no deletion: the next full pull decides."
    if detail.get("disputed"):
        return (
            "The response differs from another of about the same time, and it is not sure which is newer. "
            "A worker asks again within seconds, and the model's page shows what it finds."
        )
    if not detail.get("differed"):
        return "Nothing differed: the mirror is what the vendor shows."
    return "The mirror differed from what the vendor shows, and is right now."
