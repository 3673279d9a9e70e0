"""A connection that broke while it was idle costs no work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text

from service.errors import PostgresUnavailable
from service.storage.database import transaction
from tests.support.processes import eventually
from tests.support.system import rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tests.support.drainer import Drainer


def backend(connection: Connection) -> int:
    return int(connection.execute(text("select pg_backend_pid()")).scalar_one())


def end(drainer: Drainer, *backends: int) -> None:
    """End backends, and wait until they have."""
    for pid in backends:
        rows(drainer.url, "select pg_terminate_backend(%s)", pid)
    query = "select from pg_stat_activity where pid = any(%s)"
    assert eventually(lambda: not rows(drainer.url, query, list(backends)))


def test_connections_that_broke_while_idle_are_replaced(drainer: Drainer) -> None:
    with transaction(drainer.engine) as one, transaction(drainer.engine) as other:
        broken = {backend(one), backend(other)}
    end(drainer, *broken)
    with transaction(drainer.engine) as one, transaction(drainer.engine) as other:
        assert not {backend(one), backend(other)} & broken


def test_transaction_that_breaks_later_fails(drainer: Drainer) -> None:
    def break_and_go_on() -> None:
        with transaction(drainer.engine) as connection:
            end(drainer, backend(connection))
            backend(connection)

    # Its earlier statements are lost, so it may not continue on another connection.
    with pytest.raises(PostgresUnavailable):
        break_and_go_on()


def test_transaction_begins_with_one_statement(drainer: Drainer) -> None:
    sent: list[str] = []
    event.listen(drainer.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    with transaction(drainer.engine) as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.autocommit, "or psycopg would send a BEGIN of its own"
    assert [statement.partition(" ")[0] for statement in sent] == ["BEGIN"]
