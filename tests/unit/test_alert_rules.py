"""The rules of alerts, without a database: facts in, causes out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.alerts.facts import AlertFacts, MeasuredError, ModelFact
from service.alerts.kinds import AlertCause
from service.alerts.rules import AlertLimits, causes, preexisting
from service.storage.pulls import FailingPull

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LIMITS = AlertLimits(failed_grace=10 * MINUTE, stuck_after=240 * MINUTE, pull_interval=15 * MINUTE)
QUIET = AlertFacts(now=NOW, observing_since=NOW - timedelta(days=30), last_complete_at=NOW - MINUTE)


def model(status: str, minutes: float, **fields: Any) -> ModelFact:
    """A model that has been in a status for some time."""
    known = {
        "model_id": "m",
        "is_development": False,
        "created_at": NOW - timedelta(days=1),
        "found_at_first_check": False,
        "failures": 0,
        **fields,
    }
    return ModelFact(status=status, since=NOW - minutes * MINUTE, **known)


def kinds(facts: AlertFacts) -> list[str]:
    return [cause.kind for cause in causes(facts, LIMITS)]


def of_model(*models: ModelFact, **facts: Any) -> list[str]:
    return kinds(replace(QUIET, models=models, **facts))


def test_nothing_is_wrong() -> None:
    assert kinds(QUIET) == []


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (model("failed", 9.9), []),
        (model("failed", 10), ["model_failed"]),
        (model("failed", 0, failures=2), []),
        (model("failed", 0, failures=3), ["model_failed"]),
        (model("pending", 0, failures=3), ["model_failed"]),
        (model("active", 0, failures=3), []),
        (model("failed", 1000, found_at_first_check=True, created_at=None), []),
        (model("failed", 1000, found_at_first_check=True, created_at=NOW - timedelta(days=31)), []),
        # It was made after the mirror began to look: it cannot be of the past.
        (model("failed", 1000, found_at_first_check=True), ["model_failed"]),
        (model("pending", 239), []),
        (model("pending", 240), ["model_stuck"]),
        (model("pending", 15, is_development=True), ["model_stuck"]),
        (model("waiting", 240, found_at_first_check=True, created_at=QUIET.observing_since - 241 * MINUTE), []),
        (
            model("waiting", 240, found_at_first_check=True, created_at=QUIET.observing_since - 239 * MINUTE),
            ["model_stuck"],
        ),
        (model("onboarding", 100_000), []),
        (model("active", 100_000), []),
        (model("retired", 100_000), []),
    ],
)
def test_a_model_by_itself(fact: ModelFact, expected: list[str]) -> None:
    assert of_model(fact) == expected


@pytest.mark.parametrize(
    ("status", "holds"),
    [
        ("failed", True),
        ("pending", True),
        ("onboarding", True),
        ("retired", False),
        ("active", False),
        ("deleted", False),
    ],
)
def test_failed_alert_closes_when_active_not_at_a_new_attempt(status: str, holds: bool) -> None:
    told = frozenset({AlertCause("model_failed", "m")})
    assert of_model(model(status, 0, found_at_first_check=True), open=told) == (["model_failed"] if holds else [])


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"last_complete_at": NOW - 44 * MINUTE}, []),
        ({"last_complete_at": NOW - 45 * MINUTE}, ["pull_stale"]),
        ({"last_complete_at": None}, ["pull_stale"]),
        ({"last_complete_at": None, "observing_since": NOW - 44 * MINUTE}, []),
        ({"pulls_that_missed": 1, "missed": 50}, []),
        ({"pulls_that_missed": 2, "missed": 2, "events": 2}, []),
        ({"pulls_that_missed": 2, "missed": 3, "events": 2}, ["webhooks_missing"]),
        ({"failing_pulls": (FailingPull("hot", "timed out", 1, NOW),)}, []),
        ({"failing_pulls": (FailingPull("hot", "timed out", 2, NOW),)}, ["pull_failing"]),
        ({"failing_pulls": (FailingPull("full", "timed out", None, None),)}, ["pull_failing"]),
        ({"failing_pulls": (FailingPull("full", "the upstream refused: 401 UNAUTHORIZED", None, None),)}, []),
        ({"dead_events": 1}, ["events_dead"]),
        ({"set_aside": 1}, ["records_set_aside"]),
        ({"failing_subscriptions": ("orders",)}, ["subscription_failing"]),
        ({"held_pulls": (7,)}, ["tombstones_held"]),
        ({"foreign_pulls": (7,)}, ["organization_changed"]),
        ({"refused_at": NOW, "refused_status": 403}, ["api_rejected"]),
        ({"refused_at": NOW, "refused_status": 401, "accepted_at": NOW - MINUTE}, ["api_rejected"]),
        ({"refused_at": NOW, "refused_status": 401, "accepted_at": NOW}, []),
    ],
)
def test_the_mirror_as_a_whole(facts: dict[str, Any], expected: list[str]) -> None:
    assert kinds(replace(QUIET, **facts)) == expected


@pytest.mark.parametrize("heard", [False, True])
def test_webhooks_missing_closes_on_an_event_not_on_silence(heard: bool) -> None:
    told = replace(QUIET, open=frozenset({AlertCause("webhooks_missing")}), event_since_opened=heard)
    assert kinds(told) == ([] if heard else ["webhooks_missing"])
    still = replace(told, pulls_that_missed=3, missed=30, events=1)
    assert kinds(still) == ["webhooks_missing"]


def measured(lower: float | None, period: str = "24h", unexplained: int = 0) -> MeasuredError:
    return MeasuredError(period, lower, 0.001, unexplained)


@pytest.mark.parametrize(
    ("errors", "holds"),
    [
        ((), False),
        ((measured(0.002), measured(0.002, "1h")), True),
        ((measured(0.001), measured(0.002, "1h")), False),
        ((measured(0.002), measured(0.001, "1h")), False),
        ((measured(0.002), measured(None, "1h")), False),
        ((measured(0.002),), False),
        ((measured(None), measured(0.002, "1h")), False),
        ((measured(0.0, unexplained=1), measured(0.0, "1h")), True),
        ((measured(None, unexplained=1),), True),
        ((measured(0.0, "28d", unexplained=1), measured(0.0)), False),
    ],
)
def test_inaccuracy_alerts_by_both_windows_or_our_own_fault(errors: tuple[MeasuredError, ...], holds: bool) -> None:
    assert kinds(replace(QUIET, measured=errors)) == (["mirror_inaccurate"] if holds else [])


@pytest.mark.parametrize(("interval", "holds"), [(20, False), (21, True)])
def test_hour_with_too_few_pulls_gives_way_to_the_day(interval: int, holds: bool) -> None:
    errors = (measured(0.0, "1h"), measured(0.002), measured(0.002, "28d"))
    found = causes(replace(QUIET, measured=errors), replace(LIMITS, pull_interval=interval * MINUTE))
    assert [cause.kind for cause in found] == (["mirror_inaccurate"] if holds else [])


def test_preexisting_holds_problems_from_before_the_first_check() -> None:
    old = NOW - timedelta(days=40)
    facts = replace(
        QUIET,
        models=(
            model("failed", 5, model_id="a", found_at_first_check=True, created_at=old),
            model("failed", 5, model_id="b", created_at=old),
            model("pending", 5, model_id="c", found_at_first_check=True, created_at=old),
            model("pending", 5, model_id="d", found_at_first_check=True, created_at=QUIET.observing_since),
            model("active", 5, model_id="e", found_at_first_check=True, created_at=old),
        ),
    )
    assert preexisting(facts, LIMITS) == (["a"], ["c"])


MODELS = st.builds(
    model,
    st.sampled_from(["failed", "pending", "active", "deleted", "onboarding"]),
    st.integers(0, 500),
    model_id=st.sampled_from("abc"),
    failures=st.integers(0, 4),
    found_at_first_check=st.booleans(),
)


@given(st.lists(MODELS, max_size=3, unique_by=lambda fact: fact.model_id))
def test_an_alert_that_opened_stays_open_while_nothing_changes(models: list[ModelFact]) -> None:
    facts = replace(QUIET, models=tuple(models))
    found = causes(facts, LIMITS)
    again = causes(replace(facts, open=frozenset(found)), LIMITS)
    assert again == found
    later = causes(replace(facts, now=NOW + MINUTE, open=frozenset(found)), LIMITS)
    assert found.keys() <= later.keys()
