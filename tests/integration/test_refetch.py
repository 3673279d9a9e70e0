"""Questions that only a single GET answers: asked once, answered by a GET that is young enough, never lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from service.broker.jobs import WORK_QUEUE, Job
from service.broker.stale_models import STALE_MODELS
from tests.support.mirror import DETAILS, LIST, LISTED, SINGLE
from tests.support.processes import eventually
from workers import jobs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mirror import Mirror, StartMirror


def moment(seconds: float, after: datetime | None = None) -> str:
    """So many seconds from now, or after another time, as the vendor writes times."""
    return (
        ((after or datetime.now(UTC)) + timedelta(seconds=seconds))
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def tell(here: Mirror, event: str, model: dict[str, Any], **order: Any) -> None:
    """Let the vendor send an event about a model, and apply it."""
    here.vendor.control("POST", "/events", {"event": event, "modelId": model["id"], **order})
    here.apply_webhooks()


def ask_now(here: Mirror) -> None:
    """Ask every open question, long after it came up."""
    here.advance_vendor_clock()
    here.make_refetches_due()
    here.refetch()


def settled(here: Mirror) -> bool:
    """Ask what is due; whether no question is open any more."""
    here.refetch()
    return not here.refetch_requests()


# --- what is asked


def test_a_first_sight_by_webhook_is_filled_in_by_one_get(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(events=True, status="active")
    here.apply_webhooks()
    row = here.model(model["id"])
    assert (row["title"], row["email"], row["team_id"], row["photo_count"]) == (model["title"], None, None, None)
    # In real time: the question comes due by itself, soon.
    assert eventually(lambda: settled(here), 10)
    assert here.differences((*LISTED, *DETAILS)) == []
    assert here.request_counts(SINGLE) == {200: 1}
    assert here.request_counts(LIST).total() == 0
    assert [change["source"] for change in here.changes(model["id"])] == ["webhook", "refetch"]


def test_refetch_goes_on_while_a_redis_key_has_a_wrong_type(mirrored: Mirror) -> None:
    jobs.install(mirrored.runtime)
    mirrored.runtime.redis.set(STALE_MODELS, "by hand")
    mirrored.sql(
        "insert into headshotpro.refetch_requests (model_id, reason, due_at, after) "
        "select id, 'test', now(), now() - interval '1 minute' from headshotpro.models limit 1"
    )
    jobs.refetch()
    assert mirrored.sql("select model_id from headshotpro.refetch_requests") == []


def test_ten_events_about_one_model_cost_one_get(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create()
    here.pull()
    for number in range(5):
        here.change(model["id"], status="active", events=True)
        here.change(model["id"], favoritePhotoId=f"{number:024x}", status="waiting", events=True)
        here.apply_webhooks()
    assert len(here.sql("select id from headshotpro.webhook_events")) > 10
    # In real time: the GET goes out when it is surely younger than the last event, and not before.
    assert eventually(lambda: settled(here), 15)
    assert here.differences((*LISTED, *DETAILS)) == []
    assert here.request_counts(SINGLE) == {200: 1}


def test_webhook_triggers_a_refetch_of_photos_and_favourite(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="generatingHeadshots")
    here.pull()
    assert here.model(model["id"])["photo_count"] is None
    here.change(model["id"], status="active", photoCount=80, events=True)
    here.apply_webhooks()
    ask_now(here)
    assert here.model(model["id"])["photo_count"] == 80
    here.change(model["id"], favoritePhotoId="5" * 24, events=True)
    here.apply_webhooks()
    ask_now(here)
    assert here.model(model["id"])["favorite_photo_id"] == "5" * 24
    assert here.request_counts(SINGLE) == {200: 2}
    assert here.refetch_requests() == {}


def test_an_event_without_a_time_asks_and_does_not_overwrite(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="active")
    # The event is no older than any time it mentions: the page has to be younger than its finish.
    here.advance_vendor_clock()
    here.pull()
    here.advance_vendor_clock()
    # Its time is unknown: here it is older than the known state.
    tell(here, "model.status.updated", model, form="bare", object={"status": "pending"})
    assert here.model(model["id"])["status"] == "active"
    assert here.refetch_requests().keys() == {model["id"]}
    ask_now(here)
    assert here.model(model["id"])["status"] == "active"
    # And here it is the truth.
    here.change(model["id"], status="failed")
    tell(here, "model.status.updated", model, form="bare")
    assert here.model(model["id"])["status"] == "active"
    ask_now(here)
    assert here.model(model["id"])["status"] == "failed"
    assert here.request_counts(SINGLE) == {200: 2}
    assert here.refetch_requests() == {}


def test_a_webhook_that_a_page_has_overtaken_is_settled_by_a_get(mirror: StartMirror) -> None:
    # The page was read about a second after the event, which is nearer than an answer's time is known.
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="active")
    here.pull()
    # The row has the earliest time at which the page can have been read.
    near = moment(1, here.model(model["id"])["observed_at"])
    tell(here, "model.status.updated", model, createdAt=near, object={"status": "pending"})
    assert here.refetch_requests()[model["id"]]["reason"] == "dispute"
    ask_now(here)
    assert here.differences() == []
    assert here.refetch_requests() == {}


# --- what answers


def test_only_a_get_sent_after_its_time_settles_a_request(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="active", photoCount=40)
    here.pull()
    tell(here, "model.photos_ready", model, createdAt=moment(60))
    here.make_refetches_due()
    here.refetch()
    assert here.request_counts(SINGLE) == {200: 1}
    assert here.model(model["id"])["photo_count"] == 40
    # That GET may have been too early to see what was announced: the question stays.
    assert here.refetch_requests()[model["id"]]["attempts"] == 1
    here.advance_vendor_clock(120)
    here.make_refetches_due()
    here.refetch()
    assert here.request_counts(SINGLE) == {200: 2}
    assert here.refetch_requests() == {}


def test_404_of_a_live_model_only_keeps_its_refetch_request(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    model, other = here.create(2, status="active")
    here.pull()
    here.vanish(model["id"])
    here.advance_vendor_clock()
    tell(here, "model.photos_ready", model, object={"status": "active", "deletedAt": None})
    ask_now(here)
    ask_now(here)
    assert here.request_counts(SINGLE) == {404: 2}
    assert here.model(model["id"])["status"] == "active"
    request = here.refetch_requests()[model["id"]]
    assert request["missing_at"] is not None
    # A complete walk that does not show it either decides; then the 404 settles the question, too.
    here.advance_vendor_clock()
    assert here.pull()["tombstoned"] == 1
    assert here.model(model["id"])["status"] == "deleted"
    ask_now(here)
    assert here.refetch_requests() == {}
    assert here.model(other["id"])["status"] == "active"


def test_404_settles_the_refetch_request_of_a_tombstone(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="generatingHeadshots")
    here.pull()
    here.change(model["id"], status="active", events=True)
    here.apply_webhooks()
    # It is deleted before a GET has read its photos.
    here.vendor.control("DELETE", f"/models/{model['id']}?events=1")
    here.apply_webhooks()
    assert here.model(model["id"])["status"] == "deleted"
    assert here.refetch_requests().keys() == {model["id"]}
    ask_now(here)
    assert here.refetch_requests() == {}
    assert here.request_counts(SINGLE) == {404: 1}
    assert here.model(model["id"])["status"] == "deleted"


# --- what survives


def test_refetch_request_survives_the_process_that_took_it(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="active", photoCount=40)
    here.pull()
    tell(here, "model.photos_ready", model)
    here.advance_vendor_clock()
    here.make_refetches_due()
    here.set_switches(slow=60)
    assert here.runtime.queue.enqueue(Job.REFETCH)
    worker = here.start(folder, "-m", "workers.rq_worker", WORK_QUEUE)
    assert eventually(lambda: here.refetch_requests()[model["id"]]["attempts"] == 1)
    worker.kill()
    worker.wait()
    # It is held for the dead process for a while, then it comes due again.
    here.set_switches(slow=0)
    here.refetch()
    assert here.request_counts(SINGLE).total() == 0
    assert here.refetch_requests().keys() == {model["id"]}
    here.make_refetches_due()
    here.refetch()
    assert here.model(model["id"])["photo_count"] == 40
    assert here.refetch_requests() == {}
