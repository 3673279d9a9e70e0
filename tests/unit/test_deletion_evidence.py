"""The judge: which 404 counts as a death, once a complete walk did not show the model either."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.mirror.deletions import proves_deletion

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)
# An ObjectId of 12:00:00; it may have been made until 12:00:01.
MODEL_ID = f"{int(NOON.timestamp()):08x}00000000000000a1"


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_a_404_about_a_model_of_yesterday_counts() -> None:
    assert proves_deletion(MODEL_ID, after(-86_400), NOON, after(1))


@pytest.mark.parametrize("created", [0.0, 0.001, 5.0])
def test_404_of_model_created_after_the_request_proves_nothing(created: float) -> None:
    assert not proves_deletion(MODEL_ID, after(created), NOON, after(1))


def test_reported_creation_time_overrides_the_one_in_the_id() -> None:
    assert proves_deletion(MODEL_ID, after(0.2), after(0.3), after(1))
    assert not proves_deletion("ffffffff00000000000000a1", after(1), after(1), after(2))


@pytest.mark.parametrize(("sent", "counts"), [(-1.0, False), (0.0, False), (0.9, False), (1.0, True), (60.0, True)])
def test_the_time_in_an_id_is_only_known_to_the_second(sent: float, counts: bool) -> None:
    assert proves_deletion(MODEL_ID, None, after(sent), after(sent + 1)) is counts


def test_a_model_of_which_no_time_is_known_was_there_before() -> None:
    # A full pull did not show it and a GET does not find it: nothing speaks for a birth in between.
    assert proves_deletion("not-an-object-id", None, NOON, after(1))


@pytest.mark.parametrize("created", [None, after(600), datetime(2106, 1, 1, tzinfo=UTC)])
def test_a_creation_time_in_the_future_shields_no_model(created: datetime | None) -> None:
    assert proves_deletion("f" * 24, created, NOON, after(1))
