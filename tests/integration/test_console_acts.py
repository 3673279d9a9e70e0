"""Acts in the console: operators do each with one row in the audit log, also where the upstream sends nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate
from html import escape, unescape
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from service.alerts import trial
from service.api.writes import UpstreamWriter
from service.broker.jobs import WORK_QUEUE, rq_queue
from service.errors import PostgresUnavailable, Throttled
from service.upstream import client as upstream_client
from service.upstream.client import UpstreamClient
from tests.support.alerting import NotificationReceiver
from tests.support.console import OPERATOR, console, log_in, token
from tests.support.console_world import MODEL, fill
from tests.support.mirror import SINGLE
from tests.support.odd_vendor import http, odd_vendor
from tests.support.operator import Operator, path_of
from tests.support.system import rows
from workers import jobs

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient
    from pytest_httpserver import HTTPServer

    from tests.support.mirror import Mirror

AUDITED = (
    "select actor, actor_kind, address, action, target, outcome from headshotpro.audit_log where actor_kind = 'console'"
)

# The act, its target, its name in the audit log, the target there, and a query that is true once it is done.
ACTS = (
    ("acknowledge", "1", "alerts.acknowledge", None,
     "select acknowledged_at is not null as done from headshotpro.alerts where id = 1"),
    ("reject", "3", "pull.reject", "3", "select status = 'failed' as done from headshotpro.pulls where id = 3"),
    ("resolve", "1", "set_aside.resolve", "1",
     "select resolved_at is not null as done from headshotpro.set_aside where id = 1"),
)  # fmt: skip


@pytest.fixture
def url(database_url: str) -> str:
    fill(database_url)
    return database_url


def browser_of(tmp_path: Path, url: str, redis_url: str, password: str) -> FlaskClient:
    browser = console(tmp_path, url, redis_url)
    log_in(browser, password)
    return browser


def test_operator_does_each_act_once_with_one_audit_row(tmp_path: Path, url: str, redis_url: str) -> None:
    browser = browser_of(tmp_path, url, redis_url, OPERATOR)
    for count, (name, target, action, audited, done) in enumerate(ACTS, 1):
        page = browser.get(path_of(name, target))
        assert page.status_code == 200
        assert rows(url, done) != [{"done": True}]
        sent = browser.post(path_of(name, target), data={"csrf_token": token(page)})
        assert (name, sent.status_code, rows(url, done)) == (name, 303, [{"done": True}])
        assert browser.get(sent.headers["Location"]).status_code == 200
        written = rows(url, f"{AUDITED} order by id")
        assert len(written) == count
        expected = {"actor": "operator", "actor_kind": "console", "address": "127.0.0.1", "outcome": "done"}
        assert written[-1] == {**expected, "action": action, "target": audited}


@pytest.mark.parametrize(
    "case",
    [
        ("acknowledge", "4711", 409), ("acknowledge", "x", 404), ("acknowledge", "all", 404),
        ("refetch", "unknown", 503), ("delete", "unknown", 404), ("erase", MODEL, 409), ("reject", "1", 409),
        ("resolve", "9" * 19, 404), ("pull", "cold", 404), ("unknown", "1", 404),
    ],
)  # fmt: skip
def test_act_that_cannot_be_done_changes_nothing_and_says_so(
    tmp_path: Path, url: str, redis_url: str, case: tuple[str, str, int]
) -> None:
    name, target, status = case
    browser = browser_of(tmp_path, url, redis_url, OPERATOR)
    response = browser.post(path_of(name, target), data={"csrf_token": token(browser.get("/console/"))})
    assert response.status_code == status
    assert rows(url, AUDITED) == []


def one_act(mirror: Mirror) -> dict[str, Any]:
    (act,) = mirror.sql("select * from headshotpro.audit_log")
    return act


def test_asking_about_a_model_shows_cost_and_what_differed(mirrored: Mirror) -> None:
    operator, model = Operator(mirrored), min(mirrored.live_ids())
    assert "1 request of the vendor" in operator.browser.get(path_of("refetch", model)).text
    mirrored.change(model, title="A new title")
    mirrored.advance_vendor_clock()
    old, counted = mirrored.model(model)["title"], mirrored.request_counts(SINGLE)
    shown = operator.do("refetch", model)
    assert mirrored.model(model)["title"] == "A new title"
    assert "<ins>A new title</ins>" in shown.text
    assert f"<del>{escape(old)}</del>" in shown.text
    assert (mirrored.request_counts(SINGLE) - counted).total() == 1
    act = one_act(mirrored)
    assert (act["action"], act["target"], act["outcome"]) == ("model.refetch", model, "done")
    # Values may be personal.
    assert "title" in act["detail"]["differed"]
    assert "A new title" not in str(act)


def test_asking_twice_says_that_nothing_differed(mirrored: Mirror) -> None:
    operator, model = Operator(mirrored), min(mirrored.live_ids())
    operator.do("refetch", model)
    assert "Nothing differed" in operator.do("refetch", model).text
    assert [act["outcome"] for act in mirrored.sql("select outcome from headshotpro.audit_log")] == ["done", "done"]


def test_asking_in_the_second_of_a_page_says_it_is_not_sure(mirrored: Mirror) -> None:
    model = min(mirrored.live_ids())
    row = mirrored.model(model)
    (page,) = mirrored.sql("select core_at from headshotpro.model_clocks where model_id = %s", model)
    body = {"success": True, "model": {"id": model, "status": row["status"], "title": "A new title"}}
    # Each time counts from two seconds before its `Date`: this GET may have been read before the page, or after it.
    date = formatdate(page["core_at"].timestamp() // 1 + 2, usegmt=True)
    with odd_vendor(http(200, body, Date=date)) as vendor:
        shown = Operator(mirrored, headshotpro_api_url=vendor.url).do("refetch", model).text
    assert mirrored.model(model)["title"] == row["title"]
    assert model in mirrored.refetch_requests()
    assert "not sure which is newer" in shown
    assert "Nothing differed" not in shown


def test_asking_about_a_model_that_vanished_decides_nothing(mirrored: Mirror) -> None:
    operator, model = Operator(mirrored), min(mirrored.live_ids())
    mirrored.vanish(model)
    assert "does not know this model" in operator.do("refetch", model).text
    assert mirrored.model(model)["status"] != "deleted"
    assert (one_act(mirrored)["outcome"], one_act(mirrored)["detail"]) == ("done", {"found": "not found"})
    assert model in mirrored.refetch_requests()


def test_deleting_a_model_deletes_it_at_the_vendor(mirrored: Mirror) -> None:
    operator, model = Operator(mirrored), min(mirrored.live_ids())
    assert "cannot be undone" in operator.browser.get(path_of("delete", model)).text
    operator.do("delete", model)
    assert model not in mirrored.live_ids()
    assert mirrored.model(model)["status"] == "deleted"
    act = one_act(mirrored)
    assert (act["action"], act["target"], act["outcome"], act["actor"]) == ("model.delete", model, "done", "operator")
    again = operator.browser.post(
        path_of("delete", model), data={"csrf_token": token(operator.browser.get("/console/"))}
    )
    assert (again.status_code, one_act(mirrored)["target"]) == (409, model)


def test_act_during_which_postgres_fails_refers_to_the_audit_log(
    mirrored: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, model = Operator(mirrored), min(mirrored.live_ids())
    page = operator.page("delete", model)

    delete = UpstreamWriter.delete

    def fail(*given: Any) -> None:
        delete(*given)
        raise PostgresUnavailable("Postgres cannot be reached")

    monkeypatch.setattr(UpstreamWriter, "delete", fail)
    sent = operator.browser.post(path_of("delete", model), data={"csrf_token": token(page)})
    assert model not in mirrored.live_ids()
    assert sent.status_code == 503
    assert "The page Audit then shows whether the act was done" in sent.text


@pytest.mark.parametrize("name", ["refetch", "delete"])
def test_act_whose_upstream_hangs_leaves_one_row_and_says_so(
    mirrored: Mirror, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(upstream_client, "RESPONSE_TIMEOUT_SECONDS", 0.5)
    model = min(mirrored.live_ids())
    with odd_vendor(lambda _connection: None) as vendor:
        shown = Operator(mirrored, headshotpro_api_url=vendor.url).do(name, model)
    act = one_act(mirrored)
    assert (act["target"], act["outcome"], act["detail"]) == (model, "unknown", {"error": "UpstreamTimeout"})
    assert ("sent no response" if name == "refetch" else "No response shows") in shown.text
    # A GET finds out what the upstream did.
    assert model in mirrored.refetch_requests()


def test_pull_now_is_done_by_a_worker_and_costs_what_it_says(mirrored: Mirror) -> None:
    operator = Operator(mirrored)
    (last,) = mirrored.sql("select * from headshotpro.pulls")
    page = operator.browser.get(path_of("pull", "full"))
    assert f"{last['requests']} requests of the vendor" in page.text
    operator.do("pull", "full")
    assert (one_act(mirrored)["action"], one_act(mirrored)["target"]) == ("pull.start", "full")
    assert queued_jobs(mirrored) == [("workers.jobs.pull_now", ["full"])]
    jobs.install(mirrored.runtime)
    jobs.pull_now("full")
    assert [pull["status"] for pull in mirrored.sql("select status from headshotpro.pulls")] == ["complete"] * 2


def test_pull_now_waits_for_the_end_of_one_that_runs(mirrored: Mirror) -> None:
    mirrored.sql("insert into headshotpro.pulls (kind, status, started_at) values ('hot', 'running', now())")
    browser = Operator(mirrored).browser
    assert "runs already" in browser.get(path_of("pull", "hot")).text
    sent = browser.post(path_of("pull", "hot"), data={"csrf_token": token(browser.get("/console/"))})
    assert sent.status_code == 409
    assert mirrored.sql("select * from headshotpro.audit_log") == []
    assert queued_jobs(mirrored) == []


def queued_jobs(mirror: Mirror) -> list[tuple[str, list[str]]]:
    return [(job.func_name, list(job.args)) for job in rq_queue(mirror.runtime.redis, WORK_QUEUE).jobs]


def test_test_notification_shows_each_receiver_without_secrets(mirrored: Mirror, httpserver: HTTPServer) -> None:
    well, broken = NotificationReceiver(httpserver, "/T0PSECRET"), NotificationReceiver(httpserver, "/T1PSECRET")
    broken.status = 500
    shown = Operator(mirrored, alert_urls=f"{well.url},{broken.url}").do("test", "receivers")
    assert well.titles == ["a test: 1 model failed; a pull waits for a person"]
    assert "Not every receiver took the message" in shown.text
    assert "500" in shown.text
    act = one_act(mirrored)
    assert (act["action"], act["outcome"]) == ("alerts.test", "failed")
    assert [one["taken"] for one in act["detail"]["receivers"]] == [True, False]
    for secret in ("T0PSECRET", "T1PSECRET"):
        assert secret not in shown.text + str(act)


def test_receivers_that_hang_are_given_up_in_time(mirrored: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    # Six seconds for all of them, however long the process takes to start and to end.
    monkeypatch.setattr(trial, "PROCESS_SECONDS", 60.0)
    monkeypatch.setattr(trial, "START_SECONDS", 54.0)
    begun = monotonic()
    with odd_vendor(lambda _connection: None) as first, odd_vendor(lambda _connection: None) as second:
        urls = ",".join(one.url.replace("http", "json") + "?cto=60&rto=60" for one in (first, second))
        shown = Operator(mirrored, alert_urls=urls).do("test", "receivers").text
    # The receivers' own limits are longer.
    assert monotonic() - begun < 60
    assert [one["answer"] for one in one_act(mirrored)["detail"]["receivers"]] == [
        "no response within 6 s", "not tried: the receivers before it took all the time",
    ]  # fmt: skip
    assert "Not every receiver took the message" in shown
    assert "no response within" in shown
    assert one_act(mirrored)["outcome"] == "failed"


def test_act_without_a_request_left_says_that_nothing_was_done(
    mirrored: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object, **_named: object) -> None:
        raise Throttled("the request budget is spent", datetime.now(UTC))

    monkeypatch.setattr(UpstreamClient, "delete_model", refuse)
    shown = Operator(mirrored).do("delete", min(mirrored.live_ids()))
    assert "Nothing was done: the request budget" in unescape(shown.text)
    assert one_act(mirrored)["outcome"] == "failed"
