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
SHOWN = ("change", "differed", "error", "receivers", "reason", "task", "nothing_left")
TITLES = {
    "alerts.acknowledge": "Acknowledge alerts",
    "alerts.test": "Send a test notification",
    REPLAY: "Replay events",
    "model.create": "Create a model",
    "model.delete": "Delete a model",
    ERASE: "Erase personal data",
    ASK: "Ask the vendor now",
    "pull.reject": "Reject a held pull",
    "pull.release": "Release a held pull",
    "pull.start": "Pull now",
    "task.cancel": "Cancel a task",
    "set_aside.resolve": "Mark as resolved",
    "subscription.add": "Add a subscription",
    "subscription.pause": "Pause a subscription",
    "subscription.remove": "Remove a subscription",
    "subscription.replay": "Replay changes to a subscription",
    "subscription.resume": "Resume a subscription",
    "subscription.rotate": "Rotate the secret of a subscription",
    "subscription.test": "Send a test request",
}
_DONE = {
    "alerts.acknowledge": "No reminders are sent any more.",
    "alerts.test": "Every receiver took the message.",
    REPLAY: "The events were merged again.",
    "model.delete": "The vendor deleted it, and the mirror has its tombstone.",
    ERASE: "Its personal data is erased for good.",
    "pull.reject": "The pull has failed, and its suspects are left alone for a day.",
    "pull.release": "The pull was released.",
    "task.cancel": "What was done stays done.",
    "pull.start": "A worker begins within seconds: the page Pulls shows it.",
    "set_aside.resolve": "It opens again if the same is found.",
    "subscription.add": "It is sent each change from now on.",
    "subscription.pause": "Nothing is sent to it until it is resumed.",
    "subscription.remove": "It was removed with all that waited for it.",
    "subscription.replay": "Its changes are sent again.",
    "subscription.resume": "It is sent what waits for it.",
    "subscription.rotate": "The new secret was shown once; for 24 hours the old one signs, too.",
    "subscription.test": "It acknowledged the test request.",
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
    action: str = row["action"]
    return TITLES.get(action, action)


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
    return _DONE.get(action, "It was done.")


def _explain_asking(detail: Mapping[str, Any]) -> str:
    if detail.get("found"):
        return "The vendor does not know this model (404). That alone proves no deletion: the next full pull decides."
    if not detail.get("differed"):
        return "Nothing differed: the mirror is what the vendor shows."
    return "The mirror differed from what the vendor shows, and is right now."
