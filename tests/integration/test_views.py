"""The views of the contract: what each says of a small mirror in which everything happened once."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.storage import event_lags
from service.storage.database import transaction
from tests.support.drainer import T0, Drainer, minutes
from tests.support.servers import new_database
from tests.support.system import event_body, rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.local.servers import Postgres

DAY = T0.date()


def tell(drainer: Drainer, model: str, *statuses: str, start: float = 0, **fields: Any) -> None:
    """Deliver a model's life, a status every ten minutes from `start` minutes after T0, in one batch."""
    kinds = {"deleted": "model.deleted"}
    drainer.take(
        *[
            event_body(model, kinds.get(status, "model.status.updated"), status=status, at=at, **fields)
            for status, at in zip(statuses, _times(start), strict=False)
        ]
    )


def _times(start: float) -> Iterable[datetime]:
    return (minutes(start + 10 * step) for step in range(100))


def view(drainer: Drainer, name: str, where: str = "true") -> list[dict[str, Any]]:
    return rows(drainer.url, f"select * from headshotpro.{name} where {where}")


def execute(drainer: Drainer, *statements: str) -> list[Any]:
    """One transaction: the first column of what its last statement answers."""
    with psycopg.connect(drainer.url) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return [row[0] for row in cursor] if cursor.description else []


# --- mirror_status

LAGS = [f"{name}_lag_{quantile}" for name in ("event", "delivery") for quantile in ("p50", "p95", "p99")]


def test_an_empty_mirror_has_a_status(drainer: Drainer) -> None:
    (status,) = view(drainer, "mirror_status")
    assert status == {
        "models": {},
        "newest_event_at": None,
        "last_complete_pull_at": None,
        "pull_age_seconds": None,
        "spooled_events": 0,
        "open_alerts": 0,
        "oldest_change_id": None,
        **dict.fromkeys(LAGS),
    }


def test_the_status_counts_models_and_tells_what_is_newest(drainer: Drainer) -> None:
    tell(drainer, "a", "active")
    tell(drainer, "b", "active")
    tell(drainer, "c", "deleted")
    (newest,) = execute(
        drainer,
        """
        insert into headshotpro.models (id, status, observed_at, updated_at)
            values ('d', null, now(), now()), ('e', 'unknown', now(), now());
        insert into headshotpro.pulls (kind, status, started_at, finished_at) values
            ('full', 'complete', now() - interval '2 h', now() - interval '1 h'), ('full', 'failed', now(), now()),
            ('hot', 'complete', now(), now());
        insert into headshotpro.event_spool (body, signed_at, received_at) values ('', 0, now());
        insert into headshotpro.alerts (kind, opened_at, resolved_at) values
            ('pull_stale', now(), now()), ('pull_stale', now(), null)
        """,
        "select max(received_at) from headshotpro.webhook_events",
    )
    (status,) = view(drainer, "mirror_status")
    assert status["models"] == {"active": 2, "deleted": 1, "unknown": 2}
    assert status["newest_event_at"] == newest
    assert status["pull_age_seconds"] == pytest.approx(3600, abs=60)
    assert status["last_complete_pull_at"] < datetime.now(UTC) - timedelta(minutes=59)
    assert (status["spooled_events"], status["open_alerts"]) == (1, 1)
    assert status["oldest_change_id"] == min(row["id"] for row in view(drainer, "model_changes"))


def test_status_shows_how_long_events_of_the_last_hour_took(drainer: Drainer) -> None:
    execute(
        drainer,
        """
        insert into headshotpro.webhook_events (id, event, status, created_at, received_at, processed_at)
        select n::text, 'model.created', 'applied', at - make_interval(secs => 2 * n), at, at + make_interval(secs => n)
        from generate_series(1, 101) as n, lateral (select now() - make_interval(secs => 10 + n)) as received (at);
        insert into headshotpro.webhook_events (id, event, status, created_at, received_at, processed_at)
        values ('untimed', 'model.created', 'applied', null, now() - interval '1 s', now() + interval '50 s'),
            ('old', 'model.created', 'applied', now() - interval '3 h', now() - interval '2 h', now())
        """,
    )
    with transaction(drainer.engine) as connection:
        event_lags.compute(connection)
        event_lags.compute(connection)
    (status,) = view(drainer, "mirror_status")
    assert [round(status[name], 6) for name in LAGS] == [51, 95.95, 99.99, 102, 192, 200]
    (row,) = view(drainer, "event_lags")
    assert row["events"] == 102


# --- live_models, failed_models


def test_live_models_view_shows_whole_rows_of_undeleted_models(drainer: Drainer) -> None:
    tell(drainer, "here", "active")
    tell(drainer, "gone", "active", "deleted")
    assert view(drainer, "live_models") == view(drainer, "models", "id = 'here'")


def test_failed_models_shows_time_count_and_last_good_status(drainer: Drainer) -> None:
    tell(drainer, "m", "pending", "failed", "pending", "generatingHeadshots", "failed", title="Ada")
    tell(drainer, "fine", "failed", "active")
    assert view(drainer, "failed_models") == [
        {
            "id": "m",
            "title": "Ada",
            "team_name": None,
            "failed_since": minutes(40),
            "times_failed": 2,
            "last_good_status": "generatingHeadshots",
        }
    ]


def test_model_first_seen_as_failed_has_no_last_good_status(drainer: Drainer) -> None:
    tell(drainer, "m", "failed")
    (found,) = view(drainer, "failed_models")
    assert (found["failed_since"], found["times_failed"], found["last_good_status"]) == (T0, 1, None)
    # Its history is kept no longer: it failed at least once, no later than its row changed.
    execute(drainer, "delete from headshotpro.model_changes")
    assert view(drainer, "failed_models") == [found]


# --- status_durations


def test_durations_tell_when_a_status_was_entered_and_left(drainer: Drainer) -> None:
    tell(drainer, "m", "pending", "failed")
    # A change of something else is none of the status.
    tell(drainer, "m", "failed", start=15, title="Ada")
    tell(drainer, "m", "active", start=25)
    tell(drainer, "other", "waiting", start=1)
    found = sorted(view(drainer, "status_durations", "model_id = 'm'"), key=lambda row: row["entered_at"])
    assert [tuple(row.values()) for row in found] == [
        ("m", "pending", T0, minutes(10), 600.0),
        ("m", "failed", minutes(10), minutes(25), 900.0),
        ("m", "active", minutes(25), None, None),
    ]


# --- daily_outcomes


def outcomes(drainer: Drainer) -> dict[tuple[date, str | None], tuple[int, ...]]:
    return {
        (row["day"], row["team_id"]): (row["created"], row["active"], row["failed"], row["deleted"])
        for row in view(drainer, "daily_outcomes")
    }


def test_outcomes_count_each_model_once_a_day(drainer: Drainer) -> None:
    created = {"createdAt": "2026-01-01T23:59:59.999Z"}
    tell(drainer, "m", "pending", "failed", "pending", "failed", "pending", **created)
    finished = {"finishedAt": "2026-01-02T03:59:00.000Z", **created}
    tell(drainer, "m", "active", start=60, **finished)
    tell(drainer, "m", "failed", "deleted", start=24 * 60, **finished)
    assert outcomes(drainer) == {
        (date(2026, 1, 1), None): (1, 0, 0, 0),
        (date(2026, 1, 2), None): (0, 1, 1, 0),
        (date(2026, 1, 3), None): (0, 0, 1, 1),
    }


def test_outcome_without_upstream_time_counts_when_observed(drainer: Drainer) -> None:
    tell(drainer, "m", "pending", "active", "pending", "active", "deleted")
    assert outcomes(drainer) == {(DAY, None): (1, 1, 0, 1)}


def test_days_are_those_of_utc_whatever_zone_the_reader_is_in(drainer: Drainer) -> None:
    tell(drainer, "m", "pending", createdAt="2026-01-01T23:30:00.000Z")
    query = "select day from headshotpro.daily_outcomes"
    assert execute(drainer, "set time zone 'Pacific/Kiritimati'", query) == [date(2026, 1, 1)]


def test_a_model_takes_its_past_along_to_another_team(drainer: Drainer) -> None:
    tell(drainer, "m", "failed", createdAt="2026-01-02T00:00:00.000Z")
    for team in ("team_1", "team_2"):
        execute(drainer, f"update headshotpro.models set team_id = '{team}'")
        assert outcomes(drainer) == {(DAY, team): (1, 0, 1, 0)}


@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        (
            "select * from headshotpro.daily_outcomes where day > date '2026-01-01'",
            ("outcome_counts_day_team_id_idx", "models_pkey", "model_changes_model_id_id_idx"),
        ),
        ("select * from headshotpro.status_durations where model_id = 'm'", ("model_changes_model_id_id_idx",)),
        (
            "select * from headshotpro.status_durations where entered_at > timestamptz '2026-01-01'",
            ("model_changes_entered_idx",),
        ),
        # Either of the two indexes that begin with the status.
        ("select * from headshotpro.failed_models", ("model_changes_failures_idx", "models_status_")),
    ],
)
def test_what_a_reader_asks_for_reaches_the_indexes(postgres: Postgres, query: str, indexes: tuple[str, ...]) -> None:
    # A new database: what earlier rows left behind changes the costs, and with them the plan.
    with new_database(postgres) as url, psycopg.connect(url) as connection:
        # An empty table is read whole, whatever indexes it has.
        connection.execute("set local enable_seqscan = off")
        plan = "\n".join(row[0] for row in connection.execute(f"explain {query}".encode()))
    assert [index for index in indexes if index not in plan] == []
