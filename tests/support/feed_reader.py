"""A reader of the feed of changes, as docs/change-feed.md shows it: SQL, and the Python that runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import namedtuple_row

if TYPE_CHECKING:
    from collections.abc import Callable

# The position of each reader, in your own schema. A new one begins after the last change: copy `models` with it.
BEGIN = """
create table if not exists readers (name text primary key, last_id bigint not null);
insert into readers select 'billing', coalesce(max(id), 0) from headshotpro.model_changes;
"""

# The next changes, each once: the reader's place moves in the transaction that hands them on.
NEWS = """
with place as (
    select last_id from readers where name = 'billing' for update
), news as (
    select c.* from headshotpro.model_changes c, place where c.id > place.last_id order by c.id limit 1000
), moved as (
    update readers set last_id = coalesce((select max(id) from news), last_id) where name = 'billing'
)
select news.*, (select min(id) from headshotpro.model_changes) > place.last_id + 1 as fell_behind
from news, place order by id
"""


def follow(url: str, handle: Callable[[psycopg.Connection[Any], Any], None]) -> None:
    with psycopg.connect(url, autocommit=True, row_factory=namedtuple_row) as db:
        db.execute("listen headshotpro_changes")
        while True:
            with db.transaction():
                news = db.execute(NEWS).fetchall()
                if news and news[0].fell_behind:
                    raise LookupError("some changes are no longer kept: copy headshotpro.models and begin anew")
                for change in news:
                    handle(db, change)
            if not news:
                list(db.notifies(timeout=10, stop_after=1))
