"""Batches that fail: whatever one event does, the others are applied, and what fails alone is dead and asked about."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.broker.inbox import STREAM, Delivery
from service.errors import LockUnavailable, PostgresUnavailable, StatementTimeout
from service.mirror import drain, prefetch, pull
from service.mirror.batches import BATCH_SIZE, MAX_READ_BYTES, split
from service.mirror.drain import drain_spool
from service.mirror.pages import merge_pages
from service.mirror.replay import replay
from service.storage import spool
from service.storage.console_events import EventSearch
from service.storage.database import transaction
from tests.support.drainer import T0, TOLERANCE, Drainer, minutes
from tests.support.mirror import LIST
from tests.support.system import event_body, model_row, new_id, rows
from tests.support.threads import run_concurrently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from service.mirror.apply import Part
    from service.mirror.merging_batch import BatchResult
    from service.mirror.pages import PagesResult
    from service.mirror.prefetch import FetchedPage
    from tests.support.mirror import StartMirror

    ApplyParts = Callable[..., list[BatchResult]]


def refetch_requests(drainer: Drainer) -> dict[str, str]:
    found = rows(drainer.url, "select model_id, reason from headshotpro.refetch_requests where reason = 'dead_event'")
    return {row["model_id"]: row["reason"] for row in found}


def keep(drainer: Drainer, *bodies: bytes) -> None:
    """Put deliveries into the spool, as the webhook endpoint does without Redis."""
    for body in bodies:
        with transaction(drainer.engine) as connection:
            spool.put(connection, Delivery.arrived(body, int(T0.timestamp()), T0))


def fail_for(monkeypatch: pytest.MonkeyPatch, model_id: str, error: BaseException) -> None:
    """Let our own code fail whenever it merges a model."""
    real: ApplyParts = drain.apply_parts

    def apply_parts(connection: Connection, parts: Sequence[Part], *rest: Any, **options: Any) -> list[BatchResult]:
        if any(seen.model_id == model_id for part in parts for seen in part.observations):
            raise error
        return real(connection, parts, *rest, **options)

    monkeypatch.setattr(drain, "apply_parts", apply_parts)


@contextmanager
def slow(url: str, title: str, seconds: float) -> Iterator[None]:
    """Writing a model with a title takes long."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"create function headshotpro.slow() returns trigger language plpgsql as "
            f"$$ begin perform pg_sleep({seconds}); return new; end $$"
        )
        connection.execute(
            f"create trigger slow before insert or update on headshotpro.models for each row "
            f"when (new.title = '{title}') execute function headshotpro.slow()"
        )
        yield
        connection.execute("drop function headshotpro.slow cascade")


@contextmanager
def locked(url: str, model_id: str) -> Iterator[None]:
    """Another session holds a model's clocks."""
    with psycopg.connect(url) as connection:
        connection.execute("select from headshotpro.model_clocks where model_id = %s for update", [model_id])
        yield


ERRORS = [KeyError("email"), UnicodeEncodeError("latin-1", "\u4e2d", 0, 1, "no"), RecursionError(), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kept", ["inbox", "spool"])
def test_an_event_that_fails_our_code_is_dead_alone(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch, error: Exception, kept: str
) -> None:
    good, bad, after = new_id(), new_id(), new_id()
    fail_for(monkeypatch, bad, error)
    bodies = event_body(good, at=T0), event_body(bad, at=T0, event_id="evt_bad"), event_body(after, at=T0)
    if kept == "inbox":
        assert drainer.take(*bodies) == {"applied": 2, "dead": 1}
    else:
        keep(drainer, *bodies)
        assert drain_spool(drainer.engine, TOLERANCE).results == {"applied": 2, "dead": 1}
        assert rows(drainer.url, "select * from headshotpro.event_spool") == []
    assert drainer.row(good)["status"] == drainer.row(after)["status"] == "active"
    event = drainer.event("evt_bad")
    assert (event["status"], event["error"]) == ("dead", f"it cannot be applied: {type(error).__name__}")
    assert refetch_requests(drainer) == {bad: "dead_event"}


def test_replay_applies_a_dead_event_after_its_cause_is_fixed(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_id()
    with monkeypatch.context() as patch:
        fail_for(patch, model, KeyError("email"))
        assert drainer.take(event_body(model, "model.deleted", at=T0)) == {"dead": 1}
        (still,) = replay(drainer.engine, EventSearch(status="dead"), TOLERANCE)
        assert still.after == "dead"
    (replayed,) = replay(drainer.engine, EventSearch(status="dead"), TOLERANCE)
    assert replayed.after == "applied"
    assert drainer.row(model)["status"] == "deleted"


def test_an_event_whose_statement_takes_too_long_is_dead_alone(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "BATCH_STATEMENT_SECONDS", 0.4)
    monkeypatch.setattr(drain, "ALONE_STATEMENT_SECONDS", 0.4)
    good, bad = new_id(), new_id()
    with slow(drainer.url, "slow", 60):
        results = drainer.take(event_body(bad, at=T0, event_id="evt_bad", title="slow"), event_body(good, at=T0))
    assert results == {"applied": 1, "dead": 1}
    assert drainer.row(good)["status"] == "active"
    assert model_row(drainer.url, bad) is None
    assert "longer than its limit" in drainer.event("evt_bad")["error"]
    assert refetch_requests(drainer) == {bad: "dead_event"}


def test_a_statement_that_takes_too_long_is_an_error_of_ours(drainer: Drainer) -> None:
    with slow(drainer.url, "slow", 60), pytest.raises(StatementTimeout, match="longer than its limit"):
        write_slowly(drainer)


def test_every_transaction_has_limits(drainer: Drainer) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    with transaction(drainer.engine) as connection:
        shown = [connection.exec_driver_sql(f"show {name}").scalar_one() for name in names]
    assert shown == ["30s", "10s", "10s"]


def write_slowly(drainer: Drainer) -> None:
    with transaction(drainer.engine, 0.2) as connection:
        connection.exec_driver_sql(
            "insert into headshotpro.models (id, title, observed_at, updated_at) values ('m', 'slow', now(), now())"
        )


@pytest.mark.parametrize("kept", ["inbox", "spool"])
def test_an_event_behind_a_lock_waits_and_the_others_do_not(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    monkeypatch.setattr(drain, "BATCH_LOCK_SECONDS", 0.2)
    held, good = new_id(), new_id()
    drainer.take(event_body(held, at=T0, status="pending"))
    bodies = event_body(held, at=minutes(1), event_id="evt_held"), event_body(good, at=T0)
    with locked(drainer.url, held):
        if kept == "inbox":
            assert drainer.take(*bodies) == {"applied": 1}
            drainer.age_pending_entries()
        else:
            keep(drainer, *bodies)
            assert drain_spool(drainer.engine, TOLERANCE).results == {"applied": 1}
        assert drainer.row(good)["status"] == "active"
        assert drainer.row(held)["status"] == "pending"
    rest = drainer.drain() if kept == "inbox" else drain_spool(drainer.engine, TOLERANCE)
    assert rest.results == {"applied": 1}
    assert drainer.row(held)["status"] == "active"


def test_locked_table_delays_a_batch_and_makes_no_event_dead(drainer: Drainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "BATCH_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(drain, "ALONE_LOCK_SECONDS", 0.05)
    drainer.put(*[event_body(new_id(), at=T0) for _ in range(30)])
    with psycopg.connect(drainer.url) as other:
        other.execute("lock table headshotpro.model_clocks in access exclusive mode")
        with pytest.raises(LockUnavailable):
            drainer.drain()
    drainer.age_pending_entries()
    assert drainer.drain().results == {"applied": 30}


def test_a_role_without_a_privilege_makes_nothing_dead(drainer: Drainer, redis_url: str) -> None:
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        role = f"role_{new_id()}"
        connection.execute(f"create role {role} login password 'p'")
        connection.execute(f"grant usage on schema headshotpro to {role}")
        connection.execute(f"grant all on all tables in schema headshotpro to {role}")
        connection.execute(f"revoke insert on headshotpro.models from {role}")
        url = drainer.engine.url.set(username=role, password="p").render_as_string(hide_password=False)
    limited = Drainer(url.replace("postgresql+psycopg", "postgresql"), redis_url)
    try:
        limited.put(event_body(new_id(), at=T0))
        with pytest.raises(PostgresUnavailable, match="privilege"):
            limited.drain()
    finally:
        limited.close()
    drainer.age_pending_entries()
    assert drainer.drain().results == {"applied": 1}


def test_an_event_that_postgres_keeps_in_no_form_blocks_no_other(drainer: Drainer) -> None:
    good, bad, after = new_id(), new_id(), new_id()
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute("alter table headshotpro.webhook_events add check (id <> 'evt_bad')")
    bodies = event_body(good, at=T0), event_body(bad, at=T0, event_id="evt_bad"), event_body(after, at=T0)
    assert drainer.take(*bodies) == {"applied": 2}
    assert drainer.row(good)["status"] == drainer.row(after)["status"] == "active"
    assert drainer.box.depth().events == 1


def test_inbox_entry_with_unstorable_id_blocks_no_other_entry(drainer: Drainer) -> None:
    # Somebody may write into Redis by hand.
    good, odd = new_id(), new_id()
    fields = {"body": event_body(odd, at=T0), "event_id": "evt_\0", "delivery_id": "d\0"}
    drainer.client.xadd(STREAM, fields)
    results = drainer.take(event_body(good, at=T0))
    assert (results["applied"], results["dead"]) == (1, 1)
    assert drainer.row(good)["status"] == "active"
    drainer.assert_empty()


@pytest.mark.parametrize("when", ["253402300799", "1e300", "nan", "-1e15"])
def test_an_entry_of_no_time_blocks_no_other(drainer: Drainer, when: str) -> None:
    good, odd = new_id(), new_id()
    put = drainer.client.xadd
    drainer.put(event_body(good, at=T0))
    put(STREAM, {"body": b'{"event": "e", "object": {"_id": "%s"}}' % odd.encode(), "signed_at": when})
    last = {"body": event_body(new_id(), at=T0), "signed_at": when, "received_at": when}
    put(STREAM, last, id="18446744073709551614-1")
    assert drainer.drain().results.total() == 3
    assert drainer.row(good)["status"] == "active"
    drainer.assert_empty()


@pytest.mark.parametrize("signed_at", [10**18, -(10**18)])
def test_a_spooled_delivery_signed_at_no_time_stops_no_other(drainer: Drainer, signed_at: int) -> None:
    odd, good = new_id(), new_id()
    keep(drainer, event_body(odd, at=T0), event_body(good, at=T0))
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute(
            "update headshotpro.event_spool set signed_at = %s "
            "where id = (select min(id) from headshotpro.event_spool)",
            [signed_at],
        )
    assert drain_spool(drainer.engine, TOLERANCE).results == {"applied": 2}
    assert drainer.row(odd)["status"] == drainer.row(good)["status"] == "active"


# --- how much one transaction holds


def test_a_batch_is_bounded_in_bytes_and_keeps_its_order(drainer: Drainer) -> None:
    large = b" " * 200_000
    drainer.put(*[event_body(new_id(), at=T0) + large for _ in range(150)])
    entries = drainer.box.read(BATCH_SIZE, 0)
    assert len(entries) < 150
    parts = list(split(entries))
    assert [entry for part in parts for entry in part] == entries
    assert all(sum(len(entry.body) for entry in part) <= MAX_READ_BYTES for part in parts)
    assert len(parts) == -(-sum(len(entry.body) for entry in entries) // MAX_READ_BYTES)


def test_the_spool_is_taken_in_batches_bounded_in_bytes(drainer: Drainer) -> None:
    bodies = [event_body(new_id(), at=T0) + b" " * 200_000 for _ in range(30)]
    keep(drainer, *bodies)
    taken = []
    while entries := drain_spool(drainer.engine, TOLERANCE).entries:
        assert sum(len(entry.body) for entry in entries) <= MAX_READ_BYTES
        taken += [entry.body for entry in entries]
    assert taken == bodies


def test_one_delivery_larger_than_a_batch_is_taken_alone(drainer: Drainer) -> None:
    bodies = [event_body(new_id(), at=T0) for _ in range(2)]
    keep(drainer, *bodies)
    with transaction(drainer.engine) as connection:
        assert [kept.body for kept in spool.take(connection, 10, 1)] == bodies[:1]


def test_a_replay_reads_payloads_bounded_in_bytes(drainer: Drainer) -> None:
    title = "t" * 240_000
    drainer.put(*[event_body(new_id(), at=T0, title=title) for _ in range(20)])
    drainer.drain()
    run_concurrently(lambda: list(replay(drainer.engine, EventSearch(), TOLERANCE)))
    assert len(list(replay(drainer.engine, EventSearch(), TOLERANCE))) == 20


def test_pages_that_take_too_long_together_are_merged_one_by_one(
    mirror: StartMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def merge(connection: Connection, reads: Sequence[FetchedPage], *rest: Any) -> PagesResult:
        found = merge_pages(connection, reads, *rest)
        sizes.append(len(reads))
        if len(reads) > 1:
            raise StatementTimeout("it took longer than its limit")
        return found

    monkeypatch.setattr(pull, "merge_pages", merge)
    # Pages that wait for each other are taken together, however slow the machine is.
    monkeypatch.setattr(prefetch, "LINGER_SECONDS", 5.0)
    here = mirror(models=700)
    row = here.pull()
    assert max(sizes) > 1
    assert (row["status"], row["inserted"], row["pages"]) == ("complete", 700, here.request_counts(LIST).total())
    assert row["requests"] == here.request_counts(LIST).total() + 1
    assert here.differences() == []
