"""How a migration waits: for other migrations, locks and older readers; and how it reports what blocks it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy import text

from service.errors import LockUnavailable, PostgresUnavailable
from service.storage import database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine, TextClause

    Report = Callable[[str], None]

# Any constant; it only has to differ from other users of advisory locks in the same database.
MIGRATION_LOCK = 0x48534D49

# How often a waiting migration tries to take the lock.
POLL_SECONDS = 1.0

# The transaction that holds the lock is idle for as long as the migration takes, whatever the server thinks of that. A
# machine that has vanished holds it no longer than the server's probes take.
_DISABLE_IDLE_TIMEOUTS = text(
    """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
    """
)
# Without a parameter: the portal of a statement that has one keeps its snapshot to the end of the transaction.
_TRY_LOCK = text(f"SELECT pg_try_advisory_xact_lock({MIGRATION_LOCK})")

_SESSION = """
    format('process %s (%s, %s for %s s)', a.pid, coalesce(nullif(a.application_name, ''), 'nameless'),
        coalesce(a.state, 'unknown'), round(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, now()))))
"""
_OLDEST_HOLDER = text(
    f"""
    SELECT {_SESSION} FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.granted AND a.pid <> pg_backend_pid() AND l.relation IN (
        SELECT oid FROM pg_class WHERE relnamespace = 'headshotpro'::regnamespace
    )
    ORDER BY a.xact_start LIMIT 1
    """  # noqa: S608 - constant
)
_INDEX_BUILDS = text(
    f"""
    SELECT format('%s: %s', coalesce(i.relname, 'an index'), p.phase)
        || CASE WHEN a.pid IS NULL THEN '' ELSE ', for ' || {_SESSION} END
    FROM pg_stat_progress_create_index AS p
    LEFT JOIN pg_class AS i ON i.oid = p.index_relid
    LEFT JOIN pg_stat_activity AS a ON a.pid = nullif(p.current_locker_pid, 0)
    WHERE p.datname = current_database()
    """  # noqa: S608 - constant
)


@contextmanager
def migration_lock(engine: Engine, report: Report, max_wait: float) -> Iterator[None]:
    """Be the only migration of this database while the block runs.

    The lock is held by a transaction that does nothing else: locks of a session do not survive transaction pooling.
    It is tried again and again: a statement that waits for it would hold a snapshot, and the building of an index
    waits for all older snapshots, so that two migrations would wait for each other.

    Args:
        engine: it needs a connection beside those that the block takes.
        report: called when another migration has the lock.
        max_wait: seconds to wait for it.

    Raises:
        PostgresUnavailable: Postgres cannot be reached, or the other one takes too long.
    """
    deadline = time.monotonic() + max_wait
    with database.transaction(engine, None) as lock_connection:
        lock_connection.execute(_DISABLE_IDLE_TIMEOUTS)
        reported = False
        while not lock_connection.execute(_TRY_LOCK).scalar():
            if not reported:
                report("Another migration is running: waiting for its end.")
                reported = True
            if time.monotonic() > deadline:
                raise PostgresUnavailable(f"another migration was still running after {max_wait:.0f} s")
            time.sleep(POLL_SECONDS)
        yield


def retry_while_locked(work: Callable[[], None], engine: Engine, report: Report, max_wait: float, pause: float) -> None:
    """Do something until no lock is in its way.

    Args:
        work: what was done of it stays done when it raises.
        engine: finds out which session is in the way.
        report: called after each try that was given up.
        max_wait: seconds after which no new try is made.
        pause: seconds between two tries, so that sessions behind the last one get through.

    Raises:
        PostgresUnavailable: Postgres cannot be reached, or a lock was in the way to the end.
    """
    deadline = time.monotonic() + max_wait
    while True:
        try:
            return work()
        except LockUnavailable as error:
            holder = next(_query(engine, _OLDEST_HOLDER), "none any more")
            seen = f"oldest transaction in the way: {holder}"
            if time.monotonic() > deadline:
                raise PostgresUnavailable(f"gave up after {max_wait:.0f} s; {seen}; {error}") from error
            report(f"A lock could not be taken at once, and no session waits behind it; {seen}. Trying again.")
        time.sleep(pause)


@contextmanager
def report_index_builds(engine: Engine, report: Report, interval: float) -> Iterator[None]:
    """While the block runs, report every `interval` seconds how far an index build is, and which session blocks it."""
    done = threading.Event()

    def poll() -> None:
        while not done.wait(interval):
            for line in _query(engine, _INDEX_BUILDS):
                report(line)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _query(engine: Engine, statement: TextClause) -> Iterator[str]:
    with suppress(PostgresUnavailable), database.transaction(engine, None) as connection:
        yield from connection.execute(statement).scalars().all()
