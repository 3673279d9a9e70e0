"""Time that goes by in a mirror: everything that has happened so far moves into the past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.mirror import Mirror

# Every time that the counting and the classes of differences depend on.
TIMES = {
    "pulls": ("started_at", "finished_at"),
    "model_changes": ("recorded_at", "observed_at"),
    "webhook_events": ("created_at", "signed_at", "received_at", "processed_at"),
    "accuracy_checks": ("checked_at", "last_agreed_at", "core_at", "repaired_at", "looked_at"),
    "model_clocks": (
        "core_at",
        "profile_at",
        "detail_at",
        "shown_at",
        "observed_until",
        "deletion_evidence_from",
        "deletion_evidence_at",
    ),
}


def advance_time(here: Mirror, minutes: float) -> None:
    """Let time go by, for all that has happened so far."""
    for table, names in TIMES.items():
        sets = ", ".join(f"{name} = {name} - interval '{minutes} min'" for name in names)
        here.sql(f"update headshotpro.{table} set {sets}")
    # The upstream's own time of a change, as the history shows it.
    here.sql(
        "update headshotpro.model_changes set changed = jsonb_set(changed, '{finished_at,1}', "
        f"to_jsonb((changed -> 'finished_at' ->> 1)::timestamptz - interval '{minutes} min')) "
        "where jsonb_typeof(changed -> 'finished_at' -> 1) = 'string'"
    )


def known(here: Mirror, number: int = 4, **fields: Any) -> list[str]:
    """Models that the first pull has found, long ago: their ids."""
    here.enable_webhooks()
    models = here.create(number, **{"status": "active", **fields})
    here.pull()
    advance_time(here, 60)
    here.advance_vendor_clock()
    return [model["id"] for model in models]
