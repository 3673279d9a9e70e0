"""Held pulls: a person decides about a pull with too many suspects, or with the key of another organization.

Why: `docs/decisions/0007-deletion-by-evidence.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from service.errors import MirrorError
from service.mirror.deletions import check_or_record_failure, settle
from service.mirror.pull_state import PullState
from service.storage import audit, organization, pulls, suspects
from service.storage.database import transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

BATCH_SIZE = 50
REJECTED_FOR_SECONDS = 86_400.0


def release(
    engine: Engine, client: UpstreamClient, counted: Callable[[], int], pull_id: int, actor: audit.Actor
) -> int:
    """A person released a held pull: decide each of its suspects by a single GET, then the pull is complete.

    Safe to be interrupted and done again: what was decided stays decided. A suspect whose GET fails three times is left
    to the next full pull.

    Returns:
        How many became tombstones.

    Raises:
        MirrorError: no such pull is held.
        UpstreamError: the upstream is unavailable; the rest stays held.
    """
    require_held(engine, pull_id)
    with audit.recorded(engine, audit.Act(actor, "pull.release", str(pull_id))) as act:
        tombstoned = _decide(engine, client, counted, pull_id)
        act.detail["tombstoned"] = tombstoned
    return tombstoned


def _decide(engine: Engine, client: UpstreamClient, counted: Callable[[], int], pull_id: int) -> int:
    """Decide each suspect of a held pull, and complete it: how many became tombstones."""
    state, tombstoned, sent = PullState(), 0, counted()
    while True:
        with transaction(engine) as connection:
            some = suspects.held(connection, pull_id, state.checked, BATCH_SIZE)
        for model_id in some or state.to_check_again:
            suspect = check_or_record_failure(engine, client, state, model_id, None)
            if suspect is None:
                continue
            with transaction(engine) as connection:
                applied = settle(connection, suspect, pull_id)
                before, sent = sent, counted()
                found = len(applied.tombstoned)
                pulls.add(connection, pull_id, requests=sent - before, tombstoned=found, changed=len(applied.changed))
            tombstoned += found
        if not some and not state.to_check_again:
            break
    with transaction(engine) as connection:
        suspects.release(connection, pull_id)
        pulls.close_held(connection, pull_id, "complete", postponed=state.postponed)
    log.info("pull.released", pull_id=pull_id, tombstoned=tombstoned, postponed=len(state.postponed))
    return tombstoned


def reject(engine: Engine, pull_id: int, actor: audit.Actor) -> None:
    """A person rejected a held pull: it has failed, and no pull decides its suspects for a day.

    Raises:
        MirrorError: no such pull is held.
    """
    require_held(engine, pull_id)
    with transaction(engine) as connection:
        suspects.exempt_for(connection, pull_id, REJECTED_FOR_SECONDS)
        pulls.close_held(connection, pull_id, "failed", "rejected by a person")
        audit.record(connection, audit.Act(actor, "pull.reject", str(pull_id)))
    log.info("pull.rejected", pull_id=pull_id)


def reopen(engine: Engine, pull_id: int, uid: str, name: str | None, actor: audit.Actor) -> bool:
    """A person accepted the key's organization: the pull that was held for it begins anew.

    Args:
        engine: the mirror's Postgres.
        pull_id: the held pull.
        uid: the organization that is the mirrored one from now on.
        name: its name, where the vendor gives one.
        actor: the person, for the audit log.

    Returns:
        False while another full pull is running: then it has to be tried again.
    """
    with transaction(engine) as connection:
        if not pulls.reopen(connection, pull_id):
            return False
        organization.accept(connection, uid, name)
        audit.record(connection, audit.Act(actor, "pull.release", str(pull_id), {"organization": uid}))
    return True


def require_held(engine: Engine, pull_id: int) -> dict[str, Any]:
    """The row of a held pull.

    Raises:
        MirrorError: no such pull is held.
    """
    with transaction(engine) as connection:
        row = pulls.one(connection, pull_id)
    if row is None or row["status"] != "held":
        state = f"is {row['status']}" if row else "does not exist"
        raise MirrorError(f"pull {pull_id} {state}, not held; `headshot-mirror pulls list` shows those that are")
    return row
