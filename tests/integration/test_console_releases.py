"""Held pulls in the console: an operator releases one, or adopts another organization; workers do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.mirror import tasks
from service.upstream import client as upstream_client
from service.upstream.budget import Priority
from tests.support.acting import TESTER
from tests.support.console_tasks import acts, context_of, run_tasks, task, times
from tests.support.mirror import held_mirror
from tests.support.odd_vendor import client_of, odd_vendor, refusal
from tests.support.operator import Operator
from tests.support.processes import eventually

if TYPE_CHECKING:
    import pytest

    from tests.support.mirror import StartMirror


def test_release_decides_every_suspect_and_leaves_one_row(mirror: StartMirror) -> None:
    here, pull = held_mirror(mirror)
    operator = Operator(here)
    page = operator.page("release", str(pull)).text
    assert "30 requests of the vendor" in page
    assert "0 of 30" in operator.do("release", str(pull)).text
    # On a busy machine they take more than one slice.
    assert eventually(lambda: run_tasks(here) or task(here)["status"] == "done")
    assert here.sql("select status, tombstoned from headshotpro.pulls where id = %s", pull) == [
        {"status": "complete", "tombstoned": 30}
    ]
    assert (task(here)["status"], task(here)["done"]) == ("done", 30)
    (act,) = acts(here)
    assert (act["action"], act["target"], act["outcome"]) == ("pull.release", str(pull), "done")
    assert act["detail"]["tombstoned"] == 30
    assert here.differences() == []


def test_release_goes_on_where_a_worker_ended(mirror: StartMirror) -> None:
    here, _pull = held_mirror(mirror)
    tasks.begin_release(here.runtime.engine, _pull, TESTER)
    tasks.run_slice(context_of(here, times(9)), 30)
    assert task(here)["done"] == 10
    here.forget_requests()
    run_tasks(here)
    assert (task(here)["status"], task(here)["done"], task(here)["state"]["tombstoned"]) == ("done", 30, 30)
    assert here.request_counts("/organization/models/:modelId").total() == 20


def test_release_without_an_upstream_fails_and_stays_held(mirror: StartMirror) -> None:
    here, pull = held_mirror(mirror)
    tasks.begin_release(here.runtime.engine, pull, TESTER)
    with odd_vendor(refusal(401, "UNAUTHORIZED")) as vendor:
        tasks.run_slice(context_of(here, times(99), client_of(vendor)), 30)
    assert here.sql("select status from headshotpro.pulls where id = %s", pull) == [{"status": "held"}]
    (act,) = acts(here)
    assert (act["outcome"], task(here)["status"], task(here)["done"]) == ("failed", "failed", 0)
    # A person may begin again.
    tasks.begin_release(here.runtime.engine, pull, TESTER)


def test_adopting_an_organization_needs_its_uid(mirror: StartMirror) -> None:
    here = mirror(models=10)
    here.pull()
    here.sql("update headshotpro.organization set uid = 'another', name = 'Another'")
    held = here.pull()
    assert (held["status"], held["pages"]) == ("held", 0)
    operator, uid = Operator(here), here.runtime.client.organization(priority=Priority.REFETCH).body.uid
    page = operator.page("release", str(held["id"])).text
    assert "those of the 10 live models" in page
    assert uid in page
    shown = operator.do("release", str(held["id"]), uid="another")
    assert "the API key belongs to organization" in shown.text
    assert here.sql("select status from headshotpro.pulls where id = %s", held["id"]) == [{"status": "held"}]
    operator.do("release", str(held["id"]), uid=uid)
    assert here.sql("select uid from headshotpro.organization") == [{"uid": uid}]
    assert [(act["action"], act["outcome"]) for act in acts(here)] == [
        ("pull.release", "failed"), ("pull.release", "done"),
    ]  # fmt: skip
    assert here.sql("select status from headshotpro.pulls where id = %s", held["id"]) == [{"status": "running"}]


def test_adoption_whose_upstream_hangs_leaves_one_row(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=10)
    here.pull()
    here.sql("update headshotpro.organization set uid = 'another', name = 'Another'")
    held = here.pull()
    monkeypatch.setattr(upstream_client, "RESPONSE_TIMEOUT_SECONDS", 0.5)
    with odd_vendor(lambda _connection: None) as vendor:
        Operator(here, headshotpro_api_url=vendor.url).do("release", str(held["id"]), uid="x")
    (act,) = acts(here)
    assert (act["action"], act["outcome"], act["detail"]["error"]) == ("pull.release", "unknown", "UpstreamTimeout")
    assert here.sql("select status from headshotpro.pulls where id = %s", held["id"]) == [{"status": "held"}]
