"""Heartbeats of processes that a test does without."""

from __future__ import annotations

from service.heartbeat import KINDS
from service.storage import database, processes
from service.storage.processes import ProcessRow


def insert_heartbeat(url: str, *kinds: str, seconds_ago: float = 0) -> None:
    """Insert processes with their start and last heartbeat; one of each kind where none is named."""
    engine = database.connect(url)
    with database.transaction(engine) as connection:
        for kind in kinds or KINDS:
            processes.beat(connection, ProcessRow(f"machine:1:{kind}", kind, "machine", "0"), 3600)
        connection.exec_driver_sql(
            f"update headshotpro.processes set seen_at = seen_at - interval '{seconds_ago} seconds' "
            f"where name = any(array{[f'machine:1:{kind}' for kind in kinds or KINDS]})"
        )
    engine.dispose()
