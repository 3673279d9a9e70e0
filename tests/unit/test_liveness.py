"""Signs of life: when a missing worker and a stalled inbox open their alerts, and what ends them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from service.alerts.facts import AlertFacts
from service.alerts.kinds import AlertCause
from service.alerts.liveness import InboxLiveness, LivenessTracker
from service.alerts.rules import AlertLimits, causes

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LIMITS = AlertLimits(failed_grace=10 * MINUTE, stuck_after=240 * MINUTE, pull_interval=15 * MINUTE)
MISSING, STALLED = AlertCause("worker_missing"), AlertCause("inbox_stalled")
EMPTY = InboxLiveness(None, 0)


class Evaluator:
    """Looks at a clock of its own; alerts that open stay open until their cause ends."""

    def __init__(self) -> None:
        self.signs = LivenessTracker()
        self.now = NOW
        self.open: frozenset[AlertCause] = frozenset()

    def look(
        self,
        seconds: float,
        *,
        worker: datetime | None,
        inbox: InboxLiveness | None = EMPTY,
        spooled: datetime | None = None,
    ) -> list[str]:
        self.now += timedelta(seconds=seconds)
        noted = self.signs.update(self.now, worker, spooled, inbox)
        facts = AlertFacts(now=self.now, observing_since=NOW, last_complete_at=self.now, open=self.open, **noted)
        self.open = frozenset(causes(facts, LIMITS))
        return sorted(cause.kind for cause in self.open)


def waiting(seconds: float, processed: float = 7) -> InboxLiveness:
    return InboxLiveness(seconds, processed)


def test_missing_worker_opens_after_60_s_and_ends_when_seen() -> None:
    here = Evaluator()
    assert here.look(0, worker=NOW) == []
    assert here.look(59, worker=NOW) == []
    assert here.look(1, worker=NOW) == ["worker_missing"]
    assert here.look(600, worker=NOW) == ["worker_missing"]
    assert here.look(5, worker=here.now + timedelta(seconds=4)) == []


def test_worker_that_stopped_cleanly_opens_60_seconds_later() -> None:
    here = Evaluator()
    here.look(0, worker=NOW)
    # Its row is deleted, so only the evaluator knows when it was seen last.
    assert here.look(59, worker=None) == []
    assert here.look(1, worker=None) == ["worker_missing"]


def test_first_look_at_old_heartbeats_opens_nothing() -> None:
    here = Evaluator()
    assert here.look(0, worker=NOW - timedelta(days=3)) == []
    assert here.look(59, worker=NOW - timedelta(days=3)) == []
    assert here.look(1, worker=NOW - timedelta(days=3)) == ["worker_missing"]


def test_outage_of_postgres_opens_nothing() -> None:
    here = Evaluator()
    here.look(0, worker=NOW)
    here.signs.reset()
    assert here.look(600, worker=NOW) == []
    assert here.look(5, worker=here.now) == []


def test_restart_of_the_clock_ends_no_alert() -> None:
    here = Evaluator()
    here.open = frozenset({MISSING, STALLED})
    assert here.look(0, worker=None, inbox=waiting(90)) == ["inbox_stalled", "worker_missing"]
    assert here.look(5, worker=NOW - MINUTE, inbox=waiting(95)) == ["inbox_stalled", "worker_missing"]


def test_inbox_is_stalled_when_nothing_is_applied_for_60_seconds() -> None:
    here = Evaluator()
    assert here.look(0, worker=NOW, inbox=waiting(1)) == []
    assert here.look(58, worker=here.now, inbox=waiting(59)) == []
    assert "inbox_stalled" in here.look(2, worker=here.now, inbox=waiting(61))
    assert "inbox_stalled" not in here.look(5, worker=here.now, inbox=waiting(66, processed=8))


def test_backlog_that_is_being_applied_is_not_stalled() -> None:
    here = Evaluator()
    for number in range(50):
        assert here.look(5, worker=here.now, inbox=waiting(600, processed=number)) == []


def test_events_that_wait_for_less_than_60_s_are_not_stalled() -> None:
    here = Evaluator()
    assert here.look(0, worker=NOW, inbox=EMPTY) == []
    assert here.look(3600, worker=here.now + timedelta(hours=1), inbox=waiting(59, processed=0)) == []


def test_spooled_events_that_are_not_applied_are_stalled() -> None:
    here = Evaluator()
    here.look(0, worker=NOW, spooled=NOW)
    assert here.look(60, worker=NOW + MINUTE, spooled=NOW) == ["inbox_stalled"]


def test_outage_of_redis_is_no_stall_and_ends_none() -> None:
    here = Evaluator()
    here.look(0, worker=NOW, inbox=waiting(1))
    assert here.look(70, worker=NOW + 70 * timedelta(seconds=1), inbox=None) == []
    # It is back, and its drains have a minute.
    assert here.look(5, worker=here.now, inbox=waiting(76)) == []
    assert here.look(59, worker=here.now, inbox=waiting(135)) == []
    assert here.look(1, worker=here.now, inbox=waiting(136)) == ["inbox_stalled"]
    assert here.look(5, worker=here.now, inbox=None) == ["inbox_stalled"]


def signatures(refused: float, accepted: float = 0) -> InboxLiveness:
    return InboxLiveness(None, 0, refused, accepted)


def test_ten_wrong_signatures_a_minute_alert_until_one_is_right() -> None:
    here = Evaluator()

    def look(seconds: float, refused: float, accepted: float = 0) -> list[str]:
        return here.look(seconds, worker=here.now + timedelta(seconds=seconds), inbox=signatures(refused, accepted))

    # Those of before the first look are of any time.
    assert look(0, 500) == []
    assert look(50, 509) == []
    assert look(5, 510) == ["signatures_refused"]
    assert look(600, 510) == ["signatures_refused"]
    assert look(5, 511, accepted=3) == ["signatures_refused"]
    assert look(5, 511, accepted=4) == []


def test_nine_wrong_signatures_a_minute_are_no_alert() -> None:
    here = Evaluator()
    for minute in range(5):
        assert here.look(61, worker=here.now + MINUTE, inbox=signatures(9 * minute)) == []


def test_wrong_signatures_alert_though_others_are_accepted() -> None:
    here = Evaluator()
    here.look(0, worker=NOW, inbox=signatures(0))
    assert here.look(5, worker=here.now, inbox=signatures(10, accepted=5)) == ["signatures_refused"]
    assert here.look(5, worker=here.now, inbox=signatures(20, accepted=9)) == ["signatures_refused"]
    noted = here.signs.update(here.now, here.now, None, signatures(21, accepted=9))
    assert (noted["refused_signatures"], noted["accepted_signatures"]) == (21, 9)


def test_signature_alert_survives_restart_of_clock_and_redis() -> None:
    here = Evaluator()
    here.look(0, worker=NOW, inbox=signatures(0))
    here.look(5, worker=here.now, inbox=signatures(10))
    here.signs.reset()
    assert here.look(5, worker=here.now, inbox=signatures(10)) == ["signatures_refused"]
    assert here.look(5, worker=here.now, inbox=None) == ["signatures_refused"]
    assert here.look(5, worker=here.now, inbox=signatures(0)) == ["signatures_refused"]
    assert here.look(5, worker=here.now, inbox=signatures(0, accepted=1)) == []
