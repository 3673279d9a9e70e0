"""How a migration waits: for its turn, for locks, for the readers of before; and tells for whom."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy import text

from service.errors import LockUnavailable, StorageUnavailable
from service.storage import database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine, TextClause

    Tell = Callable[[str], None]

# Any constant of ours; it only has to differ from other users of advisory locks in the same database.
MIGRATION_LOCK = 0x48534D49

# How often one who waits for the turn asks for it.
LOOK_SECONDS = 1.0

# The transaction that holds the turn is idle for as long as the migration takes, whatever the server thinks of that. A
# machine that has vanished holds it no longer than the server's probes take.
_STAY = text(
    """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
    """
)
# Without a parameter: the portal of a statement that has one keeps its snapshot to the end of the transaction.
_TRY = text(f"SELECT pg_try_advisory_xact_lock({MIGRATION_LOCK})")

_PERSON = """
    format('process %s (%s, %s for %s s)', a.pid, coalesce(nullif(a.application_name, ''), 'nameless'),
        coalesce(a.state, 'unknown'), round(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, now()))))
"""
_OLDEST_HOLDER = text(
    f"""
    SELECT {_PERSON} FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.granted AND a.pid <> pg_backend_pid() AND l.relation IN (
        SELECT oid FROM pg_class WHERE relnamespace = 'headshotpro'::regnamespace
    )
    ORDER BY a.xact_start LIMIT 1
    """  # noqa: S608 - constant
)
_BUILDING = text(
    f"""
    SELECT format('%s: %s', coalesce(i.relname, 'an index'), p.phase)
        || CASE WHEN a.pid IS NULL THEN '' ELSE ', for ' || {_PERSON} END
    FROM pg_stat_progress_create_index AS p
    LEFT JOIN pg_class AS i ON i.oid = p.index_relid
    LEFT JOIN pg_stat_activity AS a ON a.pid = nullif(p.current_locker_pid, 0)
    WHERE p.datname = current_database()
    """  # noqa: S608 - constant
)


@contextmanager
def turn(engine: Engine, tell: Tell, patience: float) -> Iterator[None]:
    """Be the only one who migrates this database while the block runs.

    The lock is held by a transaction that does nothing else: locks of a session do not survive transaction pooling.
    It is asked for again and again: a statement that waits for it would hold a snapshot, and the building of an index
    waits for all older snapshots, so that two migrations would wait for each other.

    Args:
        engine: it needs a connection beside those that the block takes.
        tell: told when another one has the turn.
        patience: seconds to wait for it.

    Raises:
        StorageUnavailable: Postgres cannot be reached, or the other one takes too long.
    """
    deadline = time.monotonic() + patience
    with database.transaction(engine, None) as keeper:
        keeper.execute(_STAY)
        told = False
        while not keeper.execute(_TRY).scalar():
            if not told:
                tell("Another migration is running: waiting for its end.")
                told = True
            if time.monotonic() > deadline:
                raise StorageUnavailable(f"another migration was still running after {patience:.0f} s")
            time.sleep(LOOK_SECONDS)
        yield


def again_and_again(work: Callable[[], None], engine: Engine, tell: Tell, patience: float, rest: float) -> None:
    """Do something until no lock is in its way.

    Args:
        work: what was done of it stays done when it raises.
        engine: to find out who is in the way.
        tell: told of each try that was given up.
        patience: seconds after which no new try is made.
        rest: seconds between two tries, for whoever came behind the last one to get through.

    Raises:
        StorageUnavailable: Postgres cannot be reached, or a lock was in the way to the end.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except LockUnavailable as error:
            holder = next(_ask(engine, _OLDEST_HOLDER), "none any more")
            seen = f"oldest transaction in the way: {holder}"
            if time.monotonic() > deadline:
                raise StorageUnavailable(f"gave up after {patience:.0f} s; {seen}; {error}") from error
            tell(f"A lock was not to be had at once, and nobody is held up for it; {seen}. Trying again.")
        time.sleep(rest)


@contextmanager
def indexes_told(engine: Engine, tell: Tell, every: float) -> Iterator[None]:
    """While the block runs, tell every so many seconds how far the building of an index is, and for whom it waits."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(every):
            for line in _ask(engine, _BUILDING):
                tell(line)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _ask(engine: Engine, question: TextClause) -> Iterator[str]:
    with suppress(StorageUnavailable), database.transaction(engine, None) as connection:
        yield from connection.execute(question).scalars().all()
