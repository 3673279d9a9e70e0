"""Deletion by evidence: a model that a pull did not show is only a suspect.

A single GET decides about it, and a person where there are too many of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from service.errors import MirrorError, ModelNotFound
from service.mirror.apply import Sighting, apply
from service.mirror.judge import counts_as_gone
from service.mirror.observe import from_absence, from_single
from service.storage import models, pulls, suspects, wishes
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from service.mirror.apply import Applied
    from service.mirror.merge import Observation
    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

AT_A_TIME = 50
REJECTED_FOR_SECONDS = 86_400.0


def look(engine: Engine, client: UpstreamClient, model_id: str, patience: float | None) -> Observation | None:
    """What a single GET tells of a suspect; a 404 counts, because a complete walk did not show it either.

    Returns:
        None where a 404 says nothing: the model was created after the request was sent.
    """
    try:
        answer = client.get_model(model_id, priority=Priority.DELETION, patience=patience)
    except ModelNotFound as error:
        with transaction(engine) as connection:
            created_at = models.created_at(connection, model_id)
        counts = counts_as_gone(model_id, created_at, error.sent_at)
        return from_absence(model_id, error.sent_at) if counts else None
    return from_single(model_id, answer.body, answer.sent_at, answer.answered_at)


def settle(connection: Connection, observation: Observation | None, pull_id: int) -> Applied:
    """Merge what was seen of a suspect, as a finding of its pull."""
    applied = apply(connection, [Sighting(observation, "pull", pull_id=pull_id)] if observation else [])
    if observation:
        wishes.settle(connection, [observation.model_id], observation.at)
    return applied


def release(engine: Engine, client: UpstreamClient, counted: Callable[[], int], pull_id: int) -> int:
    """A person said that the suspects of a held pull may be decided: ask about each, then the pull is complete.

    Safe to be interrupted and done again: what was decided stays decided.

    Returns:
        How many became tombstones.

    Raises:
        MirrorError: there is no such held pull.
        UpstreamError: the upstream gave nothing; the rest stays held.
    """
    require_held(engine, pull_id)
    tombstoned, checked, sent = 0, "", counted()
    while True:
        with transaction(engine) as connection:
            some = suspects.held(connection, pull_id, checked, AT_A_TIME)
        for model_id in some:
            observation = look(engine, client, model_id, None)
            with transaction(engine) as connection:
                applied = settle(connection, observation, pull_id)
                before, sent = sent, counted()
                gone = len(applied.tombstoned)
                pulls.add(connection, pull_id, requests=sent - before, tombstoned=gone, changed=len(applied.changed))
            tombstoned, checked = tombstoned + gone, model_id
        if not some:
            break
    with transaction(engine) as connection:
        suspects.release(connection, pull_id)
        pulls.decide(connection, pull_id, "complete")
    log.info("pull.released", pull_id=pull_id, tombstoned=tombstoned)
    return tombstoned


def reject(engine: Engine, pull_id: int) -> None:
    """A person said that the suspects of a held pull are alive: it has failed, and they are left alone for a day.

    Raises:
        MirrorError: there is no such held pull.
    """
    require_held(engine, pull_id)
    with transaction(engine) as connection:
        suspects.leave_alone(connection, pull_id, REJECTED_FOR_SECONDS)
        pulls.decide(connection, pull_id, "failed", "rejected by a person")
    log.info("pull.rejected", pull_id=pull_id)


def reopen(engine: Engine, pull_id: int, organization: str) -> bool:
    """A person said that the key's organization is the right one: the pull that was held for it begins anew.

    Returns:
        False while another full pull is running: then it has to be tried again.
    """
    with transaction(engine) as connection:
        if not pulls.reopen(connection, pull_id):
            return False
        pulls.accept_organization(connection, organization)
    return True


def require_held(engine: Engine, pull_id: int) -> dict[str, Any]:
    """The row of a held pull.

    Raises:
        MirrorError: there is no such held pull.
    """
    with transaction(engine) as connection:
        row = pulls.one(connection, pull_id)
    if row is None or row["status"] != "held":
        state = f"is {row['status']}" if row else "does not exist"
        raise MirrorError(f"pull {pull_id} {state}, not held; `headshot-mirror pulls list` shows those that are")
    return row
