"""A connection that broke while it was idle costs no work; one in steady use is not checked each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import event, text

from service.storage import database
from service.storage.database import transaction
from tests.support.processes import eventually
from tests.support.system import rows

if TYPE_CHECKING:
    import pytest

    from tests.support.drainer import Drainer

PID = text("select pg_backend_pid()")


def backend(drainer: Drainer) -> int:
    with transaction(drainer.engine) as connection:
        return int(connection.execute(PID).scalar_one())


def test_connection_that_broke_while_idle_is_replaced(drainer: Drainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PING_AFTER_SECONDS", 0.0)
    first = backend(drainer)
    rows(drainer.url, "select pg_terminate_backend(%s)", first)
    assert eventually(lambda: not rows(drainer.url, "select from pg_stat_activity where pid = %s", first))
    assert backend(drainer) != first


def test_connection_in_steady_use_is_not_checked(drainer: Drainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PING_AFTER_SECONDS", 60.0)
    backend(drainer)
    checked: list[object] = []
    event.listen(drainer.engine, "checkout", lambda *_: checked.append(1))
    monkeypatch.setattr(drainer.engine.dialect, "do_ping", lambda *_: checked.append("ping"))
    backend(drainer)
    assert checked == [1]
