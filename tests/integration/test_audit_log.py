"""The audit log: each act by a command or the API leaves exactly one row, whatever the upstream does."""

from __future__ import annotations

import os
import pwd
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import psycopg
import pytest

from service.api.writes import UpstreamWriter
from service.cli.commands import cli as commands
from service.errors import Stopping, UpstreamTimeout
from service.mirror import pull_slice
from service.mirror.retention import RetentionLimits, apply_limits
from service.signal_handlers import before_end
from service.storage import audit, tasks
from service.storage.database import transaction
from service.upstream import client as upstream_client
from tests.support.acting import TESTER
from tests.support.api import Api
from tests.support.drainer import T0, minutes
from tests.support.mirror import held_mirror
from tests.support.odd_vendor import client_of, odd_vendor
from tests.support.system import event_body, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from tests.support.cli import Cli
    from tests.support.drainer import Drainer
    from tests.support.mirror import Mirror, StartMirror

HERE = (pwd.getpwuid(os.getuid()).pw_name, "command_line", socket.gethostname())
FOREVER = RetentionLimits(events=36500, history=0, personal=36500)


def acts(url: str) -> list[dict[str, Any]]:
    return rows(url, "select * from headshotpro.audit_log order by id")


def one_act(url: str) -> dict[str, Any]:
    (act,) = acts(url)
    return act


def test_create_and_delete_by_api_leave_one_row_each(mirrored: Mirror, database_url: str) -> None:
    api = Api.of(mirrored, mirror_api_keys="deploys=the-key")
    made = api.call("POST", "", {"email": "ada@example.com"}, key="the-key").json["modelId"]
    api.call("DELETE", f"/{made}", key="the-key")
    created, deleted = acts(database_url)
    for act, action in ((created, "model.create"), (deleted, "model.delete")):
        assert (act["actor"], act["actor_kind"], act["address"]) == ("deploys", "api", "127.0.0.1")
        assert (act["action"], act["target"], act["outcome"], act["detail"]) == (action, made, "done", {})
    assert datetime.now(UTC) - created["at"] < timedelta(minutes=1)


def test_refused_create_leaves_one_row_without_the_address(mirrored: Mirror, database_url: str) -> None:
    api = Api.of(mirrored)
    taken = api.get("?limit=1")["models"][0]["email"]
    assert api.call("POST", "", {"email": taken}).status_code >= 400
    act = one_act(database_url)
    assert (act["target"], act["outcome"]) == (None, "refused")
    assert act["detail"].keys() == {"error"}
    assert taken not in str(act)


def test_delete_without_a_response_is_recorded_as_unknown(mirrored: Mirror, database_url: str) -> None:
    with odd_vendor(lambda _connection: None) as vendor:
        runtime = mirrored.runtime
        writer = UpstreamWriter(
            runtime.engine, client_of(vendor, response_timeout=0.5), runtime.queue, runtime.stale_models
        )
        with pytest.raises(UpstreamTimeout):
            writer.delete(new_id(), TESTER)
    act = one_act(database_url)
    assert (act["actor"], act["outcome"], act["detail"]) == ("tester", "unknown", {"error": "UpstreamTimeout"})


def test_delete_stopped_between_two_tries_is_unknown(mirrored: Mirror, database_url: str) -> None:
    def stop(_seconds: float) -> None:
        raise Stopping

    runtime, model = mirrored.runtime, Api.of(mirrored).ids("?limit=1")[0]
    with odd_vendor(lambda _connection: None) as vendor:
        client = client_of(vendor, stop, response_timeout=0.5)
        with pytest.raises(Stopping):
            UpstreamWriter(runtime.engine, client, runtime.queue, runtime.stale_models).delete(model, TESTER)
    assert one_act(database_url)["outcome"] == "unknown"
    assert rows(database_url, "select model_id from headshotpro.refetch_requests") == [{"model_id": model}]


def test_act_whose_outcome_cannot_be_written_stays_begun(mirrored: Mirror, database_url: str) -> None:
    mirrored.sql("alter table headshotpro.audit_log add constraint stuck check (outcome = 'begun')")
    api = Api.of(mirrored)
    model = api.ids("?limit=1")[0]
    # It is done upstream, so the caller gets the response.
    assert api.call("DELETE", f"/{model}").status_code == 200
    assert (one_act(database_url)["target"], one_act(database_url)["outcome"]) == (model, "begun")


def test_what_a_signal_calls_is_there_before_the_row(
    drainer: Drainer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal may come right after the row is committed; one before waits for nothing."""

    def check(_connection: Connection) -> None:
        found.extend(one for one in before_end if one not in others)
        with monkeypatch.context() as without_row:
            without_row.setattr(audit, "transaction", lambda _engine: pytest.fail("it asks Postgres"))
            found[0]()

    # Another test's act may not have ended yet.
    others = [*before_end]
    found: list[Callable[[], object]] = []
    with audit.recorded(drainer.engine, audit.Act(TESTER, "pull.start"), check=check):
        assert one_act(database_url)["outcome"] == "begun"
        found[0]()
        assert one_act(database_url)["outcome"] == "unknown"
    assert not [one for one in before_end if one not in others]


def test_no_act_begins_while_its_row_cannot_be_written(mirrored: Mirror) -> None:
    mirrored.sql("alter table headshotpro.audit_log rename to elsewhere")
    assert Api.of(mirrored).call("DELETE", f"/{new_id()}").status_code == 503
    counted = mirrored.vendor.control("GET", "/requests")["requests"]
    assert [row for row in counted if row["method"] == "DELETE"] == []


def test_commands_record_erasure_replay_and_acknowledgement(cli: Cli, drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, event_id="evt_1"), event_body(model, at=minutes(1), event="model.deleted"))
    for command in (("models", "erase", model, "--yes"), ("events", "replay", "evt_1"), ("alerts", "ack", "--all")):
        assert cli.run(*command).status == 0
    erased, replayed, acknowledged = acts(drainer.url)
    assert {(act["actor"], act["actor_kind"], act["address"]) for act in acts(drainer.url)} == {HERE}
    assert (erased["action"], erased["target"], erased["outcome"]) == ("model.erase", model, "done")
    assert (replayed["action"], replayed["outcome"]) == ("events.replay", "done")
    assert replayed["detail"] == {"ids": ["evt_1"], "replayed": 1}
    assert (acknowledged["action"], acknowledged["detail"]) == ("alerts.acknowledge", {"alerts": []})


def test_refused_commands_leave_no_row(cli: Cli, drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0))
    assert cli.run("models", "erase", model, "--yes").status == 1
    assert cli.run("pulls", "reject", "4711").status == 1
    assert acts(drainer.url) == []


def test_deciding_a_held_pull_leaves_one_row(mirror: StartMirror, cli: Cli, database_url: str) -> None:
    _here, pull = held_mirror(mirror)
    assert cli.run("pulls", "reject", str(pull)).status == 0
    act = one_act(database_url)
    assert (act["action"], act["target"], act["outcome"]) == ("pull.reject", str(pull), "done")


def test_acts_are_removed_after_400_days(drainer: Drainer) -> None:
    with transaction(drainer.engine) as writing:
        for action in ("old", "young"):
            audit.record(writing, audit.Act(TESTER, action))
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute("update headshotpro.audit_log set at = now() - interval '401 days' where action = 'old'")
    assert apply_limits(drainer.engine, FOREVER, 10)
    assert one_act(drainer.url)["action"] == "young"


def test_tasks_are_removed_with_their_acts(drainer: Drainer) -> None:
    with transaction(drainer.engine) as writing:
        old = tasks.begin(writing, tasks.REPLAY, 1, 5, search={})
        assert old is not None
        tasks.end(writing, old, tasks.DONE)
        tasks.begin(writing, tasks.REPLAY, 2, 5, search={})
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute(
            "update headshotpro.tasks set finished_at = now() - interval '401 days' where id = %s", [old]
        )
    assert apply_limits(drainer.engine, FOREVER, 10)
    # One that runs has no end yet.
    assert [row["audit_id"] for row in rows(drainer.url, "select audit_id from headshotpro.tasks")] == [2]


def test_acts_are_listed_newest_first_by_filter_and_page(drainer: Drainer) -> None:
    with transaction(drainer.engine) as connection:
        first, second, third = (audit.record(connection, audit.Act(TESTER, action, "m1")) for action in ("a", "b", "a"))
        assert [row["id"] for row in audit.list_rows(connection, {}, 2, None)] == [third, second]
        assert [row["id"] for row in audit.list_rows(connection, {}, 2, second)] == [first]
        assert [row["id"] for row in audit.list_rows(connection, {"action": "a"}, 9, None)] == [third, first]


# Commands that change nothing, or only this machine, its schema or a process; a test delivery is an event of its own.
NO_ACTS = {
    "up", "sandbox", "migrate", "web", "worker", "clock", "verify", "status", "doctor", "accuracy", "webhook test",
    "events list", "events show", "models list", "models show", "alerts list", "pulls list", "subscriptions list",
    "subscriptions show",
}  # fmt: skip
# Acts that other tests of this file, or `test_subscription_commands.py` and `test_restore.py`, look at.
TESTED_ELSEWHERE = {
    "models erase", "events replay", "alerts ack", "pulls reject", "pulls release", "restored", "subscriptions add",
    "subscriptions test", "subscriptions pause", "subscriptions resume", "subscriptions replay", "subscriptions rotate",
    "subscriptions remove",
}  # fmt: skip
# What is typed, the act and its outcome while the upstream sends nothing.
WITHOUT_A_RESPONSE = {
    "models create": (("ada@example.com",), "model.create", "unknown"),
    "models delete": ((f"{1:024x}", "--yes"), "model.delete", "unknown"),
    "pull": ((), "pull.start", "failed"),
    "alerts test": ((), "alerts.test", "failed"),
}


def leaves(group: click.Group, before: str = "") -> Iterator[str]:
    """The commands of a group, with their groups' names."""
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from leaves(command, f"{before}{name} ")
            else:
                yield f"{before}{name}"


def test_every_command_changes_nothing_or_is_tested_for_its_row() -> None:
    assert sorted(leaves(commands)) == sorted({*NO_ACTS, *TESTED_ELSEWHERE, *WITHOUT_A_RESPONSE})


@pytest.mark.parametrize("command", WITHOUT_A_RESPONSE)
def test_command_leaves_one_row_though_the_upstream_hangs(
    cli: Cli, drainer: Drainer, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(upstream_client, "RESPONSE_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(pull_slice, "MAX_FAILURES", 1)
    arguments, action, outcome = WITHOUT_A_RESPONSE[command]
    with odd_vendor(lambda _connection: None) as vendor:
        urls = {"HEADSHOTPRO_API_URL": vendor.url, "ALERT_URLS": "json://127.0.0.1:9/?cto=0.3"}
        assert cli.run(*command.split(), *arguments, **urls).status == 1
    act = one_act(drainer.url)
    assert (act["action"], act["outcome"], act["actor_kind"]) == (action, outcome, "command_line")


@pytest.mark.parametrize(("method", "action"), [("POST", "model.create"), ("DELETE", "model.delete")])
def test_call_leaves_one_row_though_the_upstream_sends_nothing(
    mirrored: Mirror, monkeypatch: pytest.MonkeyPatch, method: str, action: str
) -> None:
    monkeypatch.setattr(upstream_client, "RESPONSE_TIMEOUT_SECONDS", 0.3)
    with odd_vendor(lambda _connection: None) as vendor:
        api = Api.of(mirrored, headshotpro_api_url=vendor.url)
        sent = api.call(method, "" if method == "POST" else f"/{new_id()}", {"email": "ada@example.com"})
    assert sent.status_code >= 500
    act = one_act(mirrored.settings.postgres_url)
    assert (act["action"], act["outcome"], act["detail"]) == (action, "unknown", {"error": "UpstreamTimeout"})
