"""What notifications say."""

from __future__ import annotations

import pytest

from service.alerts.notification import Message, NotificationItem, compose
from service.alerts.rules import KINDS


def items(what: str, kind: str, number: int, first: int = 0) -> list[NotificationItem]:
    """As many alerts of a kind about models."""
    return [NotificationItem(what, first + place, kind, f"{first + place:024x}") for place in range(number)]


def composed(*told: NotificationItem, titles: dict[str, str] | None = None, public_url: str | None = None) -> Message:
    message = compose(told, titles or {}, public_url)
    assert message is not None
    return message


def test_everything_of_a_window_is_one_message_the_gravest_first() -> None:
    message = composed(
        *items("resolved", "model_stuck", 2),
        *items("opened", "model_failed", 37, 100),
        NotificationItem("opened", 200, "api_rejected"),
        NotificationItem("reminder", 201, "tombstones_held"),
    )
    assert message.tone == "failure"
    assert message.title == (
        "headshot-mirror: 37 models failed; HeadshotPro refuses the API key; "
        "still open: a pull waits for a person; 2 stuck models have moved on"
    )
    assert (
        message.body
        == """37 models failed (the vendor did not get it running by itself)
  000000000000000000000064
  000000000000000000000065
  000000000000000000000066
  000000000000000000000067
  000000000000000000000068
  and 32 more

HeadshotPro refuses the API key (headshot-mirror doctor)

Still open: a pull waits for a person (headshot-mirror pulls list)

2 stuck models have moved on
  000000000000000000000000
  000000000000000000000001

Details: headshot-mirror alerts list"""
    )


@pytest.mark.parametrize(("what", "tone"), [("opened", "failure"), ("reminder", "warning"), ("resolved", "success")])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_words_for_one_and_for_many(kind: str, what: str, tone: str) -> None:
    one, many = composed(*items(what, kind, 1)), composed(*items(what, kind, 12))
    assert one.tone == many.tone == tone
    for message in (one, many):
        assert "{}" not in message.title + message.body
    assert ("12 " in many.title) == kind.startswith("model_")


def test_alert_of_a_kind_that_newer_code_opened_is_sent() -> None:
    message = composed(NotificationItem("opened", 1, "disk_full"))
    assert "disk_full" in message.title
    assert "headshot-mirror alerts list" in message.body


def test_notification_shows_given_titles_and_public_url() -> None:
    (item,) = items("opened", "model_failed", 1)
    assert item.model_id
    message = composed(item, titles={item.model_id: "Ann Lee"}, public_url="https://mirror.example.com/")
    assert f"{item.model_id} (Ann Lee)" in message.body
    assert message.body.endswith("Details: https://mirror.example.com/")


def test_reminders_tell_of_what_still_holds_and_each_once() -> None:
    ended = NotificationItem("reminder", 1, "model_failed", "a", still_open=False)
    assert compose([ended], {}, None) is None
    both = composed(
        NotificationItem("opened", 2, "model_failed", "b"), NotificationItem("reminder", 2, "model_failed", "b"), ended
    )
    assert both.title == "headshot-mirror: 1 model failed"
    twice = composed(
        NotificationItem("reminder", 3, "model_failed", "c"), NotificationItem("reminder", 3, "model_failed", "c")
    )
    assert twice.title == "headshot-mirror: still open: 1 model failed"


def test_the_past_is_a_summary() -> None:
    ids = [f"{place:024x}" for place in range(5)]
    detail = {"failed": 40, "failed_ids": ids, "stuck": 1, "stuck_ids": ["f" * 24]}
    message = composed(NotificationItem("first_summary", detail=detail))
    assert message.tone == "info"
    assert "40 failed already" in message.body
    assert "and 35 more" in message.body
    assert "1 in a status in which they may have been stuck" in message.body
    assert message.body.count("0" * 20) == 5
