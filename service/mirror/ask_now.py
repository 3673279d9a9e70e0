"""A person asks the upstream about one model: a single GET is sent at once and merged, and its change is recorded."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from service.errors import MirrorError, ModelNotFound, PostgresUnavailable, UpstreamError, UpstreamRejected
from service.log import format_without_messages
from service.mirror.apply import merge_single
from service.mirror.error_scope import ErrorScope, scope_of
from service.mirror.refetch import request_if_alive
from service.mirror.set_aside import refusal_of
from service.storage import audit, models
from service.storage.database import ONE_ROW_SECONDS, transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from service.storage.audit import Actor
    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

ACTION = "model.refetch"
# Another writer's lock on the model is waited for this long.
LOCK_SECONDS = 2.0


def ask_now(engine: Engine, client: UpstreamClient, model_id: str, actor: Actor, max_wait: float) -> int:
    """Read a model from the upstream and merge it.

    The row in the audit log names the fields that differed (`differed`) and the change in `model_changes` that has
    their values (`change`); where it is not sure that the response is newer than what the mirror knows, a worker asks
    again (`disputed`). After a 404 its `found` is `not found`: a deletion needs more evidence, which a refetch
    request or the next pull collects. It takes `max_wait` seconds at most, for the request budget and for tries
    after faults.

    Returns:
        The act's row in the audit log.

    Raises:
        MirrorError: the mirror has never seen the model, or its row cannot be written.
        UpstreamError: no response about it; where another try may get one, a worker sends it.
    """
    with transaction(engine) as connection:
        if model_id not in models.read(connection, [model_id]):
            raise MirrorError(f"the mirror has never seen a model {model_id}")
    with audit.recorded(engine, audit.Act(actor, ACTION, model_id)) as act:
        try:
            response = client.get_model(model_id, priority=Priority.REFETCH, max_wait=max_wait)
        except ModelNotFound:
            act.detail["found"] = "not found"
            request_if_alive(engine, model_id)
            return act.row_id
        except UpstreamRejected:
            raise
        except UpstreamError:
            with suppress(PostgresUnavailable):
                request_if_alive(engine, model_id)
            raise
        try:
            with transaction(engine, ONE_ROW_SECONDS, LOCK_SECONDS) as connection:
                applied = merge_single(connection, model_id, response, "refetch")
        except Exception as error:
            if scope_of(error) is not ErrorScope.MODEL:
                raise
            log.error("ask_now.refused", model_id=model_id, trace=format_without_messages(error))
            raise MirrorError(f"HeadshotPro sent {model_id}, and it was not written: {refusal_of(error)}") from None
        act.detail["differed"] = sorted(name for change in applied.changes for name in change["changed"])
        if applied.requests:
            act.detail["disputed"] = True
        if applied.last_change_id:
            act.detail["change"] = applied.last_change_id
    return act.row_id
