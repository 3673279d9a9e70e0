"""Reads from the mirror: pages, the feed, one model. They spend no upstream request, and need Postgres alone."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from service.errors import CallRefused
from service.storage import api_queries
from service.storage.database import connect, transaction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Engine

    from service.storage.api_queries import Filter

    Row = Mapping[str, Any]

# No read of ours takes a tenth of this; one that does is given up, so that it holds its connection no longer.
STATEMENT_SECONDS = 5.0
MOST_KEPT = 1000

K = TypeVar("K")
V = TypeVar("V")


class Page(NamedTuple):
    """A page of the list.

    Attributes:
        rows: of `models`, each with `seen_at` and `has_profile`.
        total: how many the filter lets through.
        newest: id of the newest change in the mirror; None where there is none.
    """

    rows: list[Row]
    total: int
    newest: int | None


class Changes(NamedTuple):
    """A page of the feed.

    Attributes:
        rows: of `models`, in the order of their newest change within this page.
        cursor: where the next page begins.
        more: whether there is one already.
        newest: id of the newest change in the mirror.
    """

    rows: list[Row]
    cursor: int
    more: bool
    newest: int | None


def reading_engine(url: str, *, connections: int, patience: float) -> Engine:
    """An engine for reads: each transaction sees one moment of the mirror, and writes nothing.

    Args:
        url: `postgresql://` URL of the database.
        connections: how many reads run at the same time; the others wait.
        patience: seconds that they wait.
    """
    engine = connect(url, pool_size=connections, overflow=0, patience=patience)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


class Reader:
    """Reads through one engine, made by `reading_engine`.

    Counting, and passing over what lies before a page, is what a page costs most. Every visible change of a model
    comes with a row of `model_changes`; until a new one is there, a total is kept, and where each page that was asked
    for ended: the next one begins behind it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._totals: OrderedDict[tuple[Filter, int], int] = OrderedDict()
        self._ends: OrderedDict[tuple[Filter, int, int | None], Row] = OrderedDict()

    def newest(self) -> int | None:
        """The id of the newest change: while it stays the same, so does every answer."""
        with transaction(self._engine, STATEMENT_SECONDS) as connection:
            return api_queries.newest_change(connection)

    def page(self, wanted: Filter, limit: int, offset: int) -> Page:
        """A page of the list, the newest model first.

        Raises:
            StorageUnavailable: Postgres is gone, or every connection is in use.
        """
        with transaction(self._engine, STATEMENT_SECONDS) as connection:
            newest = api_queries.newest_change(connection)
            total = self._total(connection, wanted, newest)
            last = self._ends.get((wanted, offset, newest))
            if last is None:
                rows = api_queries.page(connection, wanted, limit, offset, total)
            else:
                rows = api_queries.page_after(connection, wanted, limit, last)
        if newest is not None and len(rows) == limit and rows[-1]["created_at"] is not None:
            _keep(self._ends, (wanted, offset + limit, newest), {name: rows[-1][name] for name in ("id", "created_at")})
        return Page(rows, total, newest)

    def changes(self, since: int | datetime, wanted: Filter, limit: int, offset: int) -> Changes:
        """A page of the feed; see the function `feed`.

        Raises:
            CallRefused: changes since then are no longer kept.
            StorageUnavailable: Postgres is gone, or every connection is in use.
        """
        with transaction(self._engine, STATEMENT_SECONDS) as connection:
            return feed(connection, since, wanted, limit, offset)

    def one(self, model_id: str) -> Row | None:
        """One model, a tombstone too.

        Raises:
            StorageUnavailable: Postgres is gone, or every connection is in use.
        """
        with transaction(self._engine, STATEMENT_SECONDS) as connection:
            return api_queries.one(connection, model_id)

    def _total(self, connection: Connection, wanted: Filter, newest: int | None) -> int:
        if newest is None:
            return api_queries.total(connection, wanted)
        total = self._totals.get((wanted, newest))
        if total is None:
            total = api_queries.total(connection, wanted)
            _keep(self._totals, (wanted, newest), total)
        return total


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    """Remember something, and forget the oldest of what is too much."""
    kept[key] = value
    while len(kept) > MOST_KEPT:
        kept.popitem(last=False)


def rows_of(connection: Connection, wanted: Filter, limit: int, offset: int) -> list[Row]:
    """A page of any length, the newest model first."""
    return api_queries.page(connection, wanted, limit, offset, api_queries.total(connection, wanted))


def feed(connection: Connection, since: int | datetime, wanted: Filter, limit: int, offset: int = 0) -> Changes:
    """The models of the next `limit` changes, each once and as it is now; tombstones whatever the filter says.

    Args:
        connection: a transaction.
        since: a change's id, or a time of our clock; everything committed since then is told, and of what was
            committed up to a minute earlier perhaps some.
        wanted: the filter.
        limit: changes, not models.
        offset: changes to pass over.

    Raises:
        CallRefused: changes since then are no longer kept.
    """
    newest = api_queries.newest_change(connection)
    _require_kept(connection, since)
    start = _start(connection, since, newest)
    window = api_queries.changes_after(connection, start, limit, offset)
    places = {model_id: change_id for change_id, model_id in window}
    rows = api_queries.among(connection, list(places), wanted) if places else []
    rows.sort(key=lambda row: places[row["id"]])
    # Behind the end there is nothing to pass over: a reader who overshot goes on from where the changes end.
    cursor = window[-1][0] if window else max(start, newest or 0)
    return Changes(rows, cursor, newest is not None and newest > cursor, newest)


def _start(connection: Connection, since: int | datetime, newest: int | None) -> int:
    """The change after which the feed begins."""
    if not isinstance(since, datetime):
        return since
    start = api_queries.change_before(connection, since - api_queries.DISORDER)
    return (newest or 0) if start is None else start


def _require_kept(connection: Connection, since: int | datetime) -> None:
    """Refuse to begin where changes are missing: where some are no longer kept, and some model has no other."""
    oldest = api_queries.oldest_change(connection)
    if oldest is None:
        return
    oldest_id, recorded_at = oldest
    reaches_back = since < recorded_at if isinstance(since, datetime) else oldest_id > since + 1
    if reaches_back and api_queries.any_unchanged_since(connection, recorded_at):
        words = "Changes since then are no longer kept: read the whole list, and go on from the cursor in its header"
        raise CallRefused(410, "GONE", words)
