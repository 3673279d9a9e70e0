"""Refetch requests: their reasons, and when their GET is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from service.storage.refetches import REFETCH_DELAY, RefetchReason, RefetchRequest
from service.storage.tables.pulls import refetch_requests

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def test_comment_of_the_reason_column_names_every_reason() -> None:
    comment = refetch_requests.c.reason.comment or ""
    assert [reason for reason in RefetchReason if reason not in comment] == []


def test_get_of_a_past_time_is_due_now() -> None:
    after = NOW - timedelta(minutes=1)
    assert RefetchRequest.later_than(after, "m1", RefetchReason.DISPUTE, NOW).due_at == NOW


def test_get_of_the_present_time_is_due_after_the_delay() -> None:
    request = RefetchRequest.later_than(NOW, "m1", RefetchReason.DISPUTE, NOW)
    assert (request.after, request.due_at) == (NOW, NOW + REFETCH_DELAY)
