"""Records and fields of the upstream's responses that could not be used: they are set aside, for people to find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import DBAPIError

from service.errors import MirrorError
from service.log import format_without_messages
from service.mirror.webhooks import error_reason
from service.storage import set_aside
from service.storage.database import transaction
from service.storage.set_aside import DETAIL_FIELDS, SetAsideRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Connection, Engine

    from service.upstream.records import UnusableRecord
    from service.upstream.responses import UpstreamResponse

log = structlog.get_logger(__name__)


def note(connection: Connection, unusable: Iterable[UnusableRecord], pull_id: int | None = None) -> None:
    """Set aside the records and fields of list pages or of a GET that could not be used.

    The transaction has its locks on the models already.
    """
    if found := [row for one in unusable for row in _rows(one, pull_id)]:
        set_aside.note(connection, found)


def note_single(connection: Connection, model_id: str, response: UpstreamResponse[Any], pull_id: int | None) -> None:
    """Set aside fields of a GET that could not be used, and resolve those well again that only a GET contains."""
    note(connection, response.set_aside, pull_id)
    still = sorted(DETAIL_FIELDS.intersection(name for one in response.set_aside for name in one.fields))
    set_aside.resolve_detail(connection, model_id, still)


def note_refused(engine: Engine, refused: Mapping[str, Exception], pull_id: int) -> None:
    """Set aside models that a pull cannot write. An error's message may hold their values: it is not kept."""
    rows = [SetAsideRecord(model_id, (), refusal_of(error), pull_id) for model_id, error in refused.items()]
    for reason, error in {refusal_of(error): error for error in refused.values()}.items():
        ids = [row.model_id for row in rows if row.reason == reason]
        if isinstance(error, MirrorError):
            log.warning("models.refused", model_ids=ids, reason=reason)
        else:
            log.error("models.refused", model_ids=ids, reason=reason, trace=format_without_messages(error))
    with transaction(engine) as connection:
        set_aside.note(connection, rows)


def refusal_of(error: Exception) -> str:
    """Why a model or an event cannot be written, in a sentence without values."""
    return f"Postgres refused it: {name_of(error)}" if isinstance(error, DBAPIError) else error_reason(error)


def name_of(error: Exception) -> str:
    """The name of an error, Postgres' own where it is one; its message may hold a person's data."""
    return type(getattr(error, "orig", None) or error).__name__


def _rows(one: UnusableRecord, pull_id: int | None) -> Iterator[SetAsideRecord]:
    """One row for the fields that list pages contain too, one for those that only a GET contains."""
    detail = tuple(name for name in one.fields if name in DETAIL_FIELDS)
    rest = tuple(name for name in one.fields if name not in DETAIL_FIELDS)
    if rest or not detail:
        yield SetAsideRecord(one.model_id, rest, one.reason, pull_id)
    if detail:
        yield SetAsideRecord(one.model_id, detail, one.reason, pull_id)
