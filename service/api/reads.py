"""Reads from the mirror: pages, the feed, one model. They spend no upstream request, and need Postgres alone."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import ApiError
from service.storage import api_queries, history
from service.storage.database import ONE_SNAPSHOT, transaction

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine

    from service.storage.api_queries import ModelFilter

    Row = Mapping[str, Any]

# Every read here takes less than a tenth of this; a longer one is cancelled, to free its connection.
STATEMENT_SECONDS = 5.0


class ChangePage(NamedTuple):
    """A page of the feed.

    Attributes:
        rows: of `models`, in the order of their newest change within this page.
        cursor: where the next page begins.
        more: whether a next page exists already.
        newest_change_id: id of the newest change in the mirror.
    """

    rows: list[Row]
    cursor: int
    more: bool
    newest_change_id: int | None


def reading(engine: Engine) -> AbstractContextManager[Connection]:
    """A transaction that sees one moment of the mirror.

    Raises:
        PostgresUnavailable: Postgres cannot be reached, or every connection is in use.
    """
    return transaction(engine, STATEMENT_SECONDS, isolation=ONE_SNAPSHOT)


def read_feed(
    connection: Connection, since: int | datetime, wanted: ModelFilter, limit: int, offset: int = 0
) -> ChangePage:
    """The models of the next `limit` changes, each once and as it is now; tombstones whatever the filter is.

    Args:
        connection: a transaction.
        since: a change's id, or a time of our clock; the feed shows everything committed since then, and perhaps some
            of what was committed up to a minute earlier.
        wanted: the filter.
        limit: changes, not models.
        offset: changes to pass over.

    Raises:
        ApiError: changes since then are no longer kept.
    """
    newest_change_id = api_queries.newest_change(connection)
    _require_retained(connection, since)
    start = _start(connection, since, newest_change_id)
    window = api_queries.changes_after(connection, start, limit, offset)
    places = {model_id: change_id for change_id, model_id in window}
    rows = api_queries.list_matching(connection, list(places), wanted) if places else []
    rows.sort(key=lambda row: places[row["id"]])
    # Behind the end there is nothing to pass over: a client that went too far goes on from the last change.
    cursor = window[-1][0] if window else max(start, newest_change_id or 0)
    return ChangePage(rows, cursor, newest_change_id is not None and newest_change_id > cursor, newest_change_id)


def _start(connection: Connection, since: int | datetime, newest_change_id: int | None) -> int:
    """The change after which the feed begins."""
    if not isinstance(since, datetime):
        return since
    first = history.first_since(connection, since - history.MAX_COMMIT_DISORDER)
    return (newest_change_id or 0) if first is None else first - 1


def _require_retained(connection: Connection, since: int | datetime) -> None:
    """Refuse to begin where changes are missing: where some are no longer kept, and some model has no other."""
    oldest = api_queries.oldest_change(connection)
    if oldest is None:
        return
    oldest_id, recorded_at = oldest
    reaches_back = since < recorded_at if isinstance(since, datetime) else oldest_id > since + 1
    if reaches_back and api_queries.any_unchanged_since(connection, recorded_at):
        message = "Changes since then are no longer kept: read the whole list, and go on from the cursor in its header"
        raise ApiError(410, "GONE", message)
