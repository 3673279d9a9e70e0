"""The texts of notifications."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.alerts.kinds import KINDS, MODEL_KINDS
from service.alerts.links import Links
from service.alerts.notification import Context, Message, NotificationItem, build_test_message, compose
from service.alerts.problems import LocalUp
from service.alerts.texts import details

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
CONSOLE = Links("https://mirror.example.com", console=True, runbook="https://wiki.example/runbook")


def item(what: str, kind: str = "", seconds: float = 0, alert_id: int | None = None, **fields: Any) -> NotificationItem:
    """An item some seconds after noon."""
    return NotificationItem(what, NOON + timedelta(seconds=seconds), alert_id, kind, **fields)


def items(what: str, kind: str, number: int, first: int = 0) -> list[NotificationItem]:
    """As many alerts of a kind about models."""
    return [item(what, kind, 0, first + place, model_id=f"{first + place:024x}") for place in range(number)]


PLAIN = Context()


def composed(*told: NotificationItem, context: Context = PLAIN) -> Message:
    message = compose(told, context)
    assert message is not None
    return message


def test_message_has_a_line_for_each_alert_in_order_of_time() -> None:
    message = composed(
        *items("opened", "model_failed", 37, 100),
        item("resolved", "tombstones_held", 5, 200, detail={"pulls": [16]}, still_open=False),
        item("reminder", "api_rejected", 7, 201, opened_at=NOON, detail={"status": 401}),
        item("opened", "tombstones_held", 9, 202, detail={"pulls": [17]}),
        context=Context(organization="Initech Ltd (org_1)"),
    )
    assert message.tone == "failure"
    assert message.title == (
        "headshot-mirror: 37 models failed; a pull waits for a person; still open: HeadshotPro refuses the API key"
    )
    assert (
        message.body
        == """2026-03-04 12:00:00Z  model failed: 000000000000000000000064
2026-03-04 12:00:00Z  model failed: 000000000000000000000065
2026-03-04 12:00:00Z  model failed: 000000000000000000000066
2026-03-04 12:00:00Z  model failed: 000000000000000000000067
2026-03-04 12:00:00Z  model failed: 000000000000000000000068
2026-03-04 12:00:00Z  and 32 more: 37 models failed
2026-03-04 12:00:05Z  the pull no longer waits for a person: pull 16
2026-03-04 12:00:07Z  still open since 2026-03-04 12:00:00Z: HeadshotPro refuses the API key: status 401
2026-03-04 12:00:09Z  a pull waits for a person: pull 17

What to do:
model_failed: the vendor did not get it running by itself; `headshot-mirror models show ID --explain`
  docs/operations/runbook.md#model_failed
tombstones_held: `headshot-mirror pulls list` shows why; `headshot-mirror pulls release ID` or \
`headshot-mirror pulls reject ID` decides it
  docs/operations/runbook.md#tombstones_held
api_rejected: headshot-mirror doctor
  docs/operations/runbook.md#api_rejected

Organization: Initech Ltd (org_1)
Details: headshot-mirror alerts list"""
    )


def test_lines_are_ordered_by_time_whatever_the_order_of_items() -> None:
    message = composed(
        item("opened", "tombstones_held", 9, 2, detail={"pulls": [17]}),
        item("resolved", "tombstones_held", 5, 1, detail={"pulls": [16]}, still_open=False),
    )
    assert [line.split()[-1] for line in message.body.splitlines()[:2]] == ["16", "17"]
    assert message.title == "headshot-mirror: a pull waits for a person"


def test_resolved_kind_has_neither_a_title_as_open_nor_advice() -> None:
    message = composed(
        item("opened", "pull_failing", 1, 1, detail={"pull_kind": "hot", "error": "timed out"}),
        item("resolved", "pull_failing", 9, 1, detail={"pull_kind": "hot", "error": "timed out"}, still_open=False),
    )
    assert message.title == "headshot-mirror: pulls succeed again"
    assert "What to do" not in message.body


def test_resolved_signatures_count_those_that_were_refused() -> None:
    counted = {"within_a_minute": 12, "accepted": 0}
    line = composed(item("resolved", "signatures_refused", 9, 1, detail=counted, still_open=False)).body.splitlines()[0]
    assert line.endswith(
        "a delivery with a right signature came after those that were refused: 12 within a minute, 0 others accepted"
    )


@pytest.mark.parametrize(
    ("kind", "fields", "path"),
    [
        ("model_failed", {"model_id": "a/b"}, "models/a%2Fb"),
        ("tombstones_held", {"detail": {"pulls": [17, 18]}}, "pulls/17"),
        ("events_dead", {"detail": {"events": 1, "event_ids": ["evt_1"]}}, "events/evt_1"),
        ("worker_missing", {"detail": {"seen_at": None}}, "alerts/7"),
    ],
)
def test_line_links_the_console_page_where_there_is_one(kind: str, fields: dict[str, Any], path: str) -> None:
    alert = item("opened", kind, 0, 7, **fields)
    body = composed(alert, context=Context(links=CONSOLE)).body
    assert body.splitlines()[0].endswith(f"  https://mirror.example.com/console/{path}")
    assert f"https://wiki.example/runbook#{kind}" in body
    assert body.endswith("This mirror: https://mirror.example.com/console/")
    without = composed(alert, context=Context(links=CONSOLE._replace(console=False))).body
    assert "/console" not in without
    assert without.endswith("This mirror: https://mirror.example.com/")


@pytest.mark.parametrize(
    ("kind", "detail", "words"),
    [
        ("pull_stale", {"last_complete_at": NOON.isoformat()}, "the last one ended 2026-03-04 12:00:00Z"),
        ("pull_stale", {"last_complete_at": None}, "none was ever complete"),
        ("pull_failing", {"pull_kind": "full", "error": "timed\nout"}, "full pull, timed out"),
        ("webhooks_missing", {"missed": 7, "events": 0}, "7 changes came without one, 0 with one"),
        ("events_dead", {"events": 9, "event_ids": ["a", "b"]}, "9 events: a, b and 7 more"),
        ("events_dead", {"events": 1}, "1 event"),
        ("tombstones_held", {"pulls": [3, 4]}, "pulls 3, 4"),
        ("organization_changed", {"pulls": [3], "reason": "org_b, not org_a"}, "pull 3; org_b, not org_a"),
        ("signatures_refused", {"within_a_minute": 12}, "12 within a minute"),
        ("signatures_refused", {"within_a_minute": 12, "accepted": 3}, "12 within a minute, 3 others accepted"),
        ("worker_missing", {"seen_at": None}, "none was seen"),
        ("inbox_stalled", {"waiting_since": NOON.isoformat()}, "the oldest waits since 2026-03-04 12:00:00Z"),
        ("records_set_aside", {"rows": 2, "models": ["m"]}, "2 records or fields, of models m"),
        ("subscription_failing", {"subscriptions": ["a", "b"]}, "a, b"),
        ("clock_skew", {"seconds": -93.5}, "HeadshotPro's is -93.5 s ahead"),
        ("clock_skew", {}, ""),
        (
            "mirror_inaccurate",
            {"lower_95": 0.0012, "slo_target": 0.0001, "unexplained": 0},
            "at least 0.1200% within 24 hours, the target is 0.0001",
        ),
        (
            "mirror_inaccurate",
            {"period": "28d", "lower_95": 0.0012, "slo_target": 0.0001, "unexplained": 0},
            "at least 0.1200% within 28 days, the target is 0.0001",
        ),
        (
            "mirror_inaccurate",
            {"lower_95": 0.0, "slo_target": 0.0001, "unexplained": 2},
            "2 differences within 24 hours that an applied event does not explain",
        ),
        ("of_tomorrow", {"x": 1}, ""),
    ],
)
def test_detail_of_an_alert_is_a_few_words(kind: str, detail: dict[str, Any], words: str) -> None:
    assert details(kind, detail) == words


@pytest.mark.parametrize(("what", "tone"), [("opened", "failure"), ("reminder", "warning"), ("resolved", "success")])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_words_for_one_and_for_many(kind: str, what: str, tone: str) -> None:
    one, many = composed(*items(what, kind, 1)), composed(*items(what, kind, 12))
    assert one.tone == many.tone == tone
    for message in (one, many):
        assert "{}" not in message.title + message.body
    assert ("12 " in many.title) == (kind in MODEL_KINDS)


def test_alert_of_a_kind_that_newer_code_opened_is_sent() -> None:
    message = composed(item("opened", "disk_full", 0, 1))
    assert "disk_full" in message.title
    assert "headshot-mirror alerts list" in message.body


def test_notification_shows_given_titles() -> None:
    (failed,) = items("opened", "model_failed", 1)
    assert failed.model_id
    message = composed(failed, context=Context(titles={failed.model_id: "Ann Lee"}))
    assert f"{failed.model_id} (Ann Lee)" in message.body


def test_notification_beside_up_advises_to_run_it_again() -> None:
    local = LocalUp(".headshot-mirror/live", is_new=False)
    message = composed(item("opened", "worker_missing", 1, 0), context=Context(local=local))
    assert (
        "worker_missing: end `up` and run it again; .headshot-mirror/live/worker.log says why it ended" in message.body
    )


def test_reminders_tell_of_what_still_holds_and_each_once() -> None:
    ended = item("reminder", "model_failed", 0, 1, model_id="a", still_open=False)
    assert compose([ended], Context()) is None
    both = composed(
        item("opened", "model_failed", 0, 2, model_id="b"), item("reminder", "model_failed", 0, 2, model_id="b"), ended
    )
    assert both.title == "headshot-mirror: 1 model failed"
    twice = composed(*[item("reminder", "model_failed", 0, 3, model_id="c")] * 2)
    assert twice.title == "headshot-mirror: still open: 1 model failed"


def test_the_past_is_a_summary() -> None:
    ids = [f"{place:024x}" for place in range(5)]
    detail = {"failed": 40, "failed_ids": ids, "stuck": 1, "stuck_ids": ["f" * 24]}
    message = composed(item("first_summary", detail=detail))
    assert message.tone == "info"
    assert "40 failed already" in message.body
    assert "and 35 more" in message.body
    assert "1 in a status in which they may have been stuck" in message.body
    assert message.body.count("0" * 20) == 5


@pytest.mark.parametrize("show_names", [True, False])
def test_test_message_has_the_form_and_links_of_real_ones(show_names: bool) -> None:
    message = build_test_message(NOON, CONSOLE, show_names=show_names)
    assert message.tone == "info"
    assert message.title == "headshot-mirror: a test: 1 model failed; a pull waits for a person"
    assert "This is a test" in message.body.splitlines()[0]
    assert message.body.count("https://mirror.example.com/console/") == 4
    assert "https://wiki.example/runbook#tombstones_held" in message.body
    assert ("(A Title)" in message.body) == show_names
