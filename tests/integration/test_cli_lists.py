"""The command line's lists of pulls and events, for people and as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg

from tests.support.cli import assert_times, one_line

if TYPE_CHECKING:
    from tests.support.cli import Cli

PULL_KEYS = {
    "id", "kind", "status", "started_at", "finished_at", "requests", "pages", "models_seen", "inserted", "changed",
    "tombstoned", "missed_webhooks", "late_webhooks", "lost_webhooks", "rows_compared", "rows_differed", "error",
}  # fmt: skip

EVENT_KEYS = {
    "id", "event", "model_id", "status", "error", "created_at", "received_at", "processed_at", "deliveries",
}  # fmt: skip


def test_pulls_are_listed_newest_first(cli: Cli, two_pulls: None) -> None:
    done = cli.run("pulls", "list", "--json")
    assert done.status == 0
    assert [row["kind"] for row in done.document] == ["hot", "full"]
    assert all(row.keys() >= PULL_KEYS for row in done.document)
    assert_times(done.document)
    assert done.document[0]["finished_at"] is None
    assert done.document[1]["requests"] == 54
    assert [row["kind"] for row in cli.run("pulls", "list", "--json", "--kind", "full").document] == ["full"]
    header, first, second = cli.run("pulls", "list").out.splitlines()
    assert header.split()[:4] == ["id", "kind", "status", "started_at"]
    assert "the upstream refused: 401 UNAUTHORIZED" in first
    assert "complete" in second


def test_events_are_listed_newest_first(cli: Cli, two_events: None) -> None:
    done = cli.run("events", "list", "--json")
    assert done.status == 0
    assert [row["id"] for row in done.document] == ["evt_1", "evt_2"]
    assert all(row.keys() == EVENT_KEYS for row in done.document)
    assert_times(done.document)
    assert done.document[1]["created_at"] is None
    assert [row["id"] for row in cli.run("events", "list", "--json", "--status", "dead").document] == ["evt_2"]
    about = cli.run("events", "list", "--model", "507f1f77bcf86cd799439011").out
    assert "evt_1" in about
    assert "evt_2" not in about


def test_events_are_chosen_by_how_long_ago_they_came(cli: Cli, two_events: None, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "update headshotpro.webhook_events set received_at = now() - interval '2 h' where id = 'evt_2'"
        )
    assert [row["id"] for row in cli.run("events", "list", "--json", "--since", "1h").document] == ["evt_1"]
    assert [row["id"] for row in cli.run("events", "list", "--json", "--until", "90m").document] == ["evt_2"]
    assert cli.run("events", "list", "--until", "2020-01-01").out == "No events.\n"
    for act in ("list", "replay"):
        misspelt = cli.run("events", act, "--event", "model.delted")
        assert (misspelt.status, misspelt.out) == (0, "No events.\n")
        assert "no event model.delted; it has model.created" in misspelt.err
    for wrong in ("soon", "999999999w"):
        refused = cli.run("events", "list", "--since", wrong)
        assert (refused.status, "or how long ago: 90s, 15m, 1h, 2d" in refused.err) == (2, True)
    assert cli.run("models", "list", "--created-after", "1h").out == "No models.\n"


def test_an_event_is_shown_with_its_body(cli: Cli, two_events: None) -> None:
    done = cli.run("events", "show", "evt_1", "--json")
    assert done.document.keys() == {*EVENT_KEYS, "payload", "signed_at", "delivery_ids"}
    assert done.document["payload"]["object"]["title"] == "Zoë"
    assert_times(done.document)
    plain = cli.run("events", "show", "evt_1").out
    assert re.search(r"^deliveries +2$", plain, re.MULTILINE)
    assert '"title": "Zoë"' in plain
    one_line(cli.run("events", "show", "evt_none"), 1, "there is no event evt_none", "events list")
