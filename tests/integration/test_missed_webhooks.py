"""`missed_webhooks`: what pulls found, and no webhook announced within five minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service.broker.inbox import Delivery
from service.mirror import held_pulls
from service.mirror.pull_slice import HOT
from tests.support.acting import TESTER
from tests.support.cli import Cli
from tests.support.mirror import SINGLE
from tests.support.system import event_body
from tests.support.time_travel import advance_time, known
from workers import jobs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mirror import Mirror, StartMirror


def missed(here: Mirror, pull: dict[str, Any]) -> int:
    """The counts of the workers' job for a pull, five minutes later."""
    jobs.install(here.runtime)
    jobs.count_missed()
    (row,) = here.sql("select missed_webhooks from headshotpro.pulls where id = %s", pull["id"])
    return int(row["missed_webhooks"])


def tell(here: Mirror, event: str, model_id: str, **order: Any) -> None:
    here.vendor.control("POST", "/events", {"event": event, "modelId": model_id, **order})
    here.apply_webhooks()


def test_create_status_and_deletion_without_webhook_are_counted(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=0)
    changes, goes, renamed = known(here, 3)
    here.create()
    here.change(changes, status="failed")
    here.vanish(goes)
    # Of other fields the vendor announces nothing.
    here.change(renamed, title="Somebody else")
    pull = here.pull()
    assert (pull["inserted"], pull["changed"], pull["tombstoned"]) == (1, 2, 1)
    advance_time(here, 6)
    assert missed(here, pull) == 3
    cli = Cli(folder, **here.variables)
    assert cli.run("status", "--json").document["missed_webhooks"] == 3
    assert [row["missed_webhooks"] for row in cli.run("pulls", "list", "--json").document] == [3, 0]


def test_nothing_is_counted_before_five_minutes_are_over(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.change(known(here, 3)[0], status="failed")
    pull = here.pull()
    advance_time(here, 4.8)
    assert missed(here, pull) == 0
    advance_time(here, 0.3)
    assert missed(here, pull) == 1
    # It is late now, and lost in the end.
    advance_time(here, 90)
    assert missed(here, pull) == 1
    (row,) = here.sql("select late_webhooks, lost_webhooks from headshotpro.pulls where id = %s", pull["id"])
    assert (row["late_webhooks"], row["lost_webhooks"]) == (0, 1)


def test_status_counts_late_and_lost_webhooks_apart(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=0)
    lost, late, _right = known(here, 3)
    here.change(lost, status="failed")
    here.pull()
    advance_time(here, 91)
    here.change(late, status="failed")
    pull = here.pull()
    advance_time(here, 6)
    assert missed(here, pull) == 1
    status = Cli(folder, **here.variables).run("status", "--json").document
    assert (status["late_webhooks"], status["lost_webhooks"], status["missed_webhooks"]) == (1, 1, 2)


@pytest.mark.parametrize(("minutes", "count"), [(4.5, 0), (5.5, 1)])
def test_a_webhook_that_comes_late_but_in_time_is_not_missed(mirror: StartMirror, minutes: float, count: int) -> None:
    here = mirror(models=0)
    (model_id, *_) = known(here, 3)
    happened = datetime.now(UTC) - timedelta(minutes=minutes)
    here.change(model_id, status="failed")
    pull = here.pull()
    advance_time(here, minutes)
    # The vendor's second try: the event has the time when it happened.
    tell(here, "model.status.updated", model_id, createdAt=happened.isoformat(timespec="milliseconds"))
    advance_time(here, 6)
    assert missed(here, pull) == count


def test_webhook_in_inbox_during_pull_does_not_count_as_missing(mirror: StartMirror) -> None:
    here = mirror(models=0)
    (model_id, *_) = known(here, 3)
    here.change(model_id, status="failed")
    # Received two minutes ago; since then no drain could work.
    received = datetime.now(UTC) - timedelta(minutes=2)
    body = event_body(model_id, status="failed", at=received)
    here.runtime.inbox.put(Delivery.arrived(body, int(received.timestamp()), received))
    pull = here.pull()
    assert pull["changed"] == 1
    here.apply_webhooks()
    advance_time(here, 6)
    assert missed(here, pull) == 0


def test_event_of_an_earlier_change_hides_no_missing_webhook(mirror: StartMirror) -> None:
    here = mirror(models=0)
    known(here, 3)
    (model,) = here.create(events=True)
    here.apply_webhooks()
    here.advance_vendor_clock()
    here.change(model["id"], status="waiting")
    pull = here.pull()
    assert here.model(model["id"])["status"] == "waiting"
    advance_time(here, 6)
    assert missed(here, pull) == 1


def test_event_of_a_later_change_hides_no_missing_webhook(mirror: StartMirror) -> None:
    here = mirror(models=0)
    (model_id, *_) = known(here, 3)
    here.change(model_id, status="failed")
    pull = here.pull()
    here.advance_vendor_clock(60)
    here.change(model_id, status="pending", events=True)
    here.apply_webhooks()
    advance_time(here, 6)
    assert missed(here, pull) == 1


def test_a_bare_webhook_counts_too(mirror: StartMirror) -> None:
    # It has no time of its own; the pull may be quicker than the GET that it asks for.
    here = mirror(models=0)
    (model_id, *_) = known(here, 3, status="waiting", createdAt="2024-01-15T12:00:00.000Z")
    here.change(model_id, status="failed")
    tell(here, "model.status.updated", model_id, form="bare")
    pull = here.pull()
    assert here.changes(model_id)[-1]["pull_id"] == pull["id"]
    advance_time(here, 6)
    assert missed(here, pull) == 0


def test_model_absent_from_a_hot_pull_counts_for_that_pull(mirror: StartMirror) -> None:
    here = mirror(models=0)
    (model_id, *_) = known(here, 3, status="pending")
    here.change(model_id, status="active")
    pull = here.pull(HOT)
    here.advance_vendor_clock()
    here.make_refetches_due()
    here.refetch()
    assert here.request_counts(SINGLE) == {200: 1}
    change = here.changes(model_id)[-1]
    assert (change["to_status"], change["source"], change["pull_id"]) == ("active", "refetch", pull["id"])
    advance_time(here, 6)
    assert missed(here, pull) == 1


def test_the_first_pull_is_excepted(mirror: StartMirror) -> None:
    here = mirror(models=30)
    pull = here.pull()
    assert pull["inserted"] == 30
    advance_time(here, 6)
    assert missed(here, pull) == 0


def test_deletions_of_a_held_pull_count_after_its_release(mirror: StartMirror) -> None:
    here = mirror(models=0)
    ids = known(here, 20)
    here.vanish(*ids[:12])
    pull = here.pull()
    assert pull["status"] == "held"
    advance_time(here, 6)
    assert missed(here, pull) == 0
    held_pulls.release(here.runtime.engine, here.runtime.client, here.runtime.requests_sent, pull["id"], TESTER)
    advance_time(here, 6)
    assert missed(here, pull) == 12
