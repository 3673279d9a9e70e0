"""Records and fields of the upstream's responses that could not be used: they are set aside, for people to find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from service.log import format_without_messages
from service.storage import set_aside
from service.storage.database import transaction
from service.storage.set_aside import DETAIL_FIELDS, SetAsideRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


def note_single(
    connection: Connection, model_id: str, response: UpstreamResponse[Any], pull_id: int | None = None
) -> None:
    """Set aside fields of a GET that could not be used, and resolve those well again that only a GET contains."""
    note(connection, response.set_aside, pull_id)
    still = sorted(DETAIL_FIELDS.intersection(name for one in response.set_aside for name in one.fields))
    set_aside.resolve_detail(connection, model_id, still)


def note_refused(engine: Engine, model_id: str, pull_id: int, error: Exception) -> None:
    """Set aside a model that a pull cannot write. The error's message may hold its values: they are not kept."""
    reason = f"its row cannot be written: {kind_of(error)}"
    log.error("model.refused", model_id=model_id, reason=reason, trace=format_without_messages(error))
    with transaction(engine) as connection:
        set_aside.note(connection, [SetAsideRecord(model_id, (), reason, pull_id)])


def kind_of(error: Exception) -> str:
    """The kind of an error, without its message: that may hold a person's data."""
    cause = getattr(error, "orig", None)
    return f"{type(error).__name__} ({type(cause).__name__})" if cause else type(error).__name__


def _rows(one: UnusableRecord, pull_id: int | None) -> Iterator[SetAsideRecord]:
    """One row for the fields that list pages contain too, one for those that only a GET contains."""
    detail = tuple(name for name in one.fields if name in DETAIL_FIELDS)
    rest = tuple(name for name in one.fields if name not in DETAIL_FIELDS)
    if rest or not detail:
        yield SetAsideRecord(one.model_id, rest, one.reason, pull_id)
    if detail:
        yield SetAsideRecord(one.model_id, detail, one.reason, pull_id)
