"""A model's life as pure decisions: what comes next, how long a status lasts, what entering one brings.

onboarding → waiting → pending → generatingHeadshots → active, about an hour (development models: three minutes);
pending and generatingHeadshots may end in failed, which goes back to pending by itself. Some people pick a favourite
photo a while after their model became active.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from service.local.sandbox.model import iso, object_id

if TYPE_CHECKING:
    from random import Random

    from service.local.sandbox.model import VendorModel

FLOW = {
    "onboarding": "waiting",
    "waiting": "pending",
    "pending": "generatingHeadshots",
    "generatingHeadshots": "active",
    "failed": "pending",
}
# Of a lifetime; the four on the way to active add up to one. Active: until the favourite is picked.
STATUS_DURATION_SHARES = {
    "onboarding": 0.25,
    "waiting": 0.1,
    "pending": 0.4,
    "generatingHeadshots": 0.25,
    "failed": 0.1,
    "active": 0.2,
}
# By `is_development`; the vendor's page says "~3 minutes" and "~1 hour".
LIFETIME_MS = {True: 180_000, False: 3_600_000}
MAY_FAIL = ("pending", "generatingHeadshots")
PHOTO_COUNTS = (40, 60, 80, 120)
FAVORITE_SHARE = 0.5


def status_duration_ms(status: str, rng: Random, speed: float, *, is_development: bool) -> int:
    """How long a model stays in a status, in milliseconds."""
    return int(LIFETIME_MS[is_development] * STATUS_DURATION_SHARES[status] * rng.uniform(0.8, 1.2) / speed)


def enter_status(model: VendorModel, status: str, now: int, rng: Random, speed: float) -> VendorModel:
    """The model as it is when it has just entered a status at `now` (milliseconds)."""
    goes_on = status in FLOW or (status == "active" and rng.random() < FAVORITE_SHARE)
    due = now + status_duration_ms(status, rng, speed, is_development=model.is_development) if goes_on else None
    changed = replace(model, status=status, due=due)
    if status == "active":
        return replace(changed, finished_at=iso(now), photo_count=rng.choice(PHOTO_COUNTS))
    if status == "deleted":
        return replace(changed, deleted_at=iso(now))
    return changed


def advance_model(model: VendorModel, now: int, rng: Random, speed: float, failure_rate: float) -> VendorModel:
    """The model after what was due has happened to it."""
    if model.status == "active":
        return replace(model, favorite_photo_id=object_id(rng, now), due=None)
    if model.status not in FLOW:
        return replace(model, due=None)
    named = replace(model, title=full_name(model)) if model.status == "onboarding" else model
    fails = model.status in MAY_FAIL and rng.random() < failure_rate
    return enter_status(named, "failed" if fails else FLOW[model.status], now, rng, speed)


def full_name(model: VendorModel) -> str:
    """The title after onboarding: who was only a mailbox so far gives a name."""
    mailbox = model.email.partition("@")[0]
    if model.title != mailbox:
        return model.title
    return " ".join(word.capitalize() for word in mailbox.replace("_", ".").split(".") if word) or mailbox
