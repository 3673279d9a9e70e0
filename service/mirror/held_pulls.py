"""Held pulls: a person decides about a pull with too many suspects, or with the key of another organization.

Why: `docs/decisions/0007-deletion-by-evidence.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from service.errors import LockUnavailable, MirrorError, StatementTimeout
from service.mirror import set_aside
from service.mirror.deletions import check_or_record_failure, settle
from service.mirror.error_scope import ErrorScope, scope_of
from service.mirror.pull_slice import PullState
from service.storage import audit, organization, pulls, suspects
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

    from service.storage.organization import MirroredOrganization
    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

BATCH_SIZE = 50
REJECTED_FOR_SECONDS = 86_400.0
RELEASE = "pull.release"


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
    with audit.recorded(engine, audit.Act(actor, RELEASE, str(pull_id))) as act:
        tombstoned = 0
        for found in decide(engine, client, counted, pull_id, PullState()):
            tombstoned += found or 0
        act.detail["tombstoned"] = tombstoned
    return tombstoned


def decide(
    engine: Engine,
    client: UpstreamClient,
    counted: Callable[[], int],
    pull_id: int,
    state: PullState,
    *,
    max_wait: float | None = None,
) -> Iterator[int | None]:
    """Decide each suspect of a held pull by a single GET; after the last one the pull is complete.

    The caller may stop between two of them, and go on later with the same `state`. It yields after each GET: how many
    tombstones it made, 1 or 0; None where the GET failed, and the suspect is asked about again.

    Raises:
        MirrorError: the pull is not held any more: another person rejected it, or another process released it; or the
            API key belongs to another organization, to which every suspect is a 404.
        UpstreamError: the upstream is unavailable; the rest stays held.
        PostgresUnavailable: Postgres is unavailable, or a lock or a statement took too long; the rest stays held.
    """
    _require_mirrored_organization(engine, client, max_wait)
    sent = counted()
    while True:
        with transaction(engine) as connection:
            some = suspects.held(connection, pull_id, state.checked, BATCH_SIZE)
        for model_id in some or state.to_check_again:
            suspect = check_or_record_failure(engine, client, state, model_id, max_wait)
            if suspect is None:
                yield None
                continue
            before, found = sent, 0
            try:
                with transaction(engine) as connection:
                    # Another person may have rejected it meanwhile.
                    _lock_held(connection, pull_id)
                    applied = settle(connection, suspect, pull_id)
                    sent, found = counted(), len(applied.tombstoned)
                    changed = len(applied.changed)
                    pulls.add(connection, pull_id, requests=sent - before, tombstoned=found, changed=changed)
            except Exception as error:
                # A lock may be on the row of the pull, or on all: what is left stays held, and is done again.
                if isinstance(error, LockUnavailable | StatementTimeout) or scope_of(error) is not ErrorScope.MODEL:
                    raise
                sent, found = before, 0
                state.postpone(model_id)
                set_aside.note_refused(engine, {model_id: error}, pull_id)
            yield found
        if not some and not state.to_check_again:
            break
    with transaction(engine) as connection:
        _lock_held(connection, pull_id)
        suspects.release(connection, pull_id)
        pulls.close_held(connection, pull_id, "complete", postponed=state.postponed)
    log.info("pull.released", pull_id=pull_id, postponed=len(state.postponed))


def reject(engine: Engine, pull_id: int, actor: audit.Actor) -> int:
    """A person rejected a held pull: it has failed, and no pull decides its suspects for a day.

    Returns:
        The act's row in the audit log.

    Raises:
        MirrorError: no such pull is held.
    """
    with transaction(engine) as connection:
        _lock_held(connection, pull_id)
        suspects.exempt_for(connection, pull_id, REJECTED_FOR_SECONDS)
        pulls.close_held(connection, pull_id, "failed", "rejected by a person")
        row_id = audit.record(connection, audit.Act(actor, "pull.reject", str(pull_id)))
    log.info("pull.rejected", pull_id=pull_id)
    return row_id


def switch_organization(
    engine: Engine, pull_id: int, of_key: MirroredOrganization, named: str | None, actor: audit.Actor | None = None
) -> None:
    """A person accepted the key's organization: the pull that was held for it begins anew.

    `named` is the uid that the person named; it counts only where the key's organization is not the mirrored one. The
    act is recorded where `actor` names the person; else the caller records it.

    Raises:
        MirrorError: the person named another one, or another full pull is running.
    """
    with transaction(engine) as connection:
        mirrored = organization.read(connection)
        if (mirrored is None or mirrored.uid != of_key.uid) and named != of_key.uid:
            other = named or "the one that is mirrored"
            raise MirrorError(f"the API key belongs to organization {of_key}, not to {other}")
        if not pulls.reopen(connection, pull_id):
            raise MirrorError("another full pull is running: try again when it has ended")
        organization.accept(connection, of_key.uid, of_key.name)
        if actor is not None:
            audit.record(connection, audit.Act(actor, RELEASE, str(pull_id), {"organization": of_key.uid}))


def require_held(engine: Engine, pull_id: int) -> dict[str, Any]:
    """The row of a held pull.

    Raises:
        MirrorError: no such pull is held.
    """
    with transaction(engine) as connection:
        row = pulls.one(connection, pull_id)
    if row is None or row["status"] != "held":
        raise _not_held(pull_id, row["status"] if row else None)
    return row


def _require_mirrored_organization(engine: Engine, client: UpstreamClient, max_wait: float | None) -> None:
    of_key = client.organization(priority=Priority.DELETION, max_wait=max_wait).body.uid
    with transaction(engine) as connection:
        mirrored = organization.read(connection)
    if mirrored is not None and mirrored.uid != of_key:
        raise MirrorError(
            f"the API key belongs to organization {of_key}; this database mirrors {mirrored}: no suspect was decided"
        )


def _lock_held(connection: Connection, pull_id: int) -> None:
    status = pulls.lock(connection, pull_id)
    if status != "held":
        raise _not_held(pull_id, status)


def _not_held(pull_id: int, status: str | None) -> MirrorError:
    state = f"is {status}, not held" if status else "does not exist"
    return MirrorError(f"pull {pull_id} {state}; `headshot-mirror pulls list` names those that are held")
