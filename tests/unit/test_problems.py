"""Problems, without a server: facts in, problems and the verdict out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.alerts.kinds import KINDS, MODEL_KINDS, WORKER_MISSING
from service.alerts.problems import LocalUp, ProblemFacts, SeenProcess, count_alive, problems, this_up, verdict
from service.errors import SchemaOutdated
from service.storage.pulls import FailingPull

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ALL = ("web", "worker", "clock")


def seen(kind: str, seconds_ago: float, age: float = 3600) -> SeenProcess:
    """A process that started some seconds ago, and when its last heartbeat came."""
    return SeenProcess(kind, NOW - timedelta(seconds=age), NOW - timedelta(seconds=seconds_ago))


def running(**changed: float | None) -> list[SeenProcess]:
    """One process of each kind, with the seconds since it was seen; None: it has no row."""
    ages = {**dict.fromkeys(ALL, 3.0), **changed}
    return [seen(kind, age) for kind, age in ages.items() if age is not None]


WELL = ProblemFacts(now=NOW, processes=running(), pulled=True)


def codes(**facts: Any) -> list[str]:
    return [problem.code for problem in problems(replace(WELL, **facts))]


def test_mirror_is_well_while_each_kind_is_seen() -> None:
    assert problems(WELL) == []
    assert verdict(WELL, 270) == "OK"
    assert count_alive(WELL) == {"web": 1, "worker": 1, "clock": 1}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("seconds", "missing"), [(19.9, False), (20.0, True), (None, True)])
def test_kind_is_missing_when_none_was_seen_for_20_seconds(kind: str, seconds: float | None, missing: bool) -> None:
    assert codes(processes=running(**{kind: seconds})) == ([f"{kind}_missing"] if missing else [])


def test_one_living_process_is_enough_for_its_kind() -> None:
    facts = replace(WELL, processes=[*running(), seen("worker", 86_000)])
    assert problems(facts) == []
    assert count_alive(facts)["worker"] == 1


def test_system_that_has_just_started_gets_20_seconds() -> None:
    def started(seconds: float) -> list[str]:
        return codes(processes=[seen("web", 1, age=seconds), seen("worker", 300, age=900)])

    assert started(19) == []
    assert started(21) == ["worker_missing", "clock_missing"]


@pytest.mark.parametrize(
    ("pulled", "processes", "words"),
    [
        (True, running(), "OK"),
        (False, running(), "starting"),
        (True, [seen("web", 1, age=2)], "starting"),
        (True, [], "PROBLEM: no web is running; no worker is running; no clock is running"),
    ],
)
def test_verdict_is_starting_until_heartbeats_and_first_pull(
    pulled: bool, processes: list[SeenProcess], words: str
) -> None:
    facts = replace(WELL, pulled=pulled, processes=processes, local=LocalUp("folder", is_new=False))
    assert verdict(facts, 0) == words


@pytest.mark.parametrize("processes", [[], running(web=900, worker=900, clock=900)])
def test_up_that_has_just_started_is_starting(processes: list[SeenProcess]) -> None:
    facts = replace(WELL, processes=processes, local=LocalUp(".headshot-mirror/sandbox", is_new=True))
    assert verdict(facts, 0) == "starting"
    assert verdict(replace(facts, local=LocalUp(".headshot-mirror/sandbox", is_new=False)), 0).startswith("PROBLEM")


def test_advice_beside_up_names_its_logs_and_no_command() -> None:
    local = LocalUp(".headshot-mirror/live", is_new=False)
    facts = replace(WELL, processes=running(worker=25), redis="refused", alerts=["signatures_refused"], local=local)
    redis, worker, signatures = [problem.action for problem in problems(facts)]
    assert redis == "end `up` and run it again; .headshot-mirror/live/valkey/log says why it ended"
    assert worker == "end `up` and run it again; .headshot-mirror/live/worker.log says why it ended"
    assert signatures.endswith("and run `up` again")


def test_stalled_inbox_beside_up_names_log_and_restart_of_up() -> None:
    facts = replace(WELL, alerts=["inbox_stalled"])
    (problem,) = problems(facts)
    assert "in the worker's log, then restart the worker" in problem.action
    (problem,) = problems(replace(facts, local=LocalUp(".headshot-mirror/live", is_new=False)))
    assert "in .headshot-mirror/live/worker.log, then run `up` again" in problem.action


def test_action_about_signatures_says_whether_right_ones_come() -> None:
    facts = replace(WELL, alerts=["signatures_refused"])
    (problem,) = problems(facts)
    assert problem.action.startswith("no delivery with a right signature comes meanwhile: if HEADSHOTPRO_WEBHOOK_")
    (problem,) = problems(replace(facts, right_signature_at=NOW))
    assert problem.action.startswith("deliveries with a right signature come, the last at 20")
    assert "someone else sends requests; or a secret is being rotated" in problem.action


def test_held_pull_names_the_commands_that_decide_it() -> None:
    (problem,) = problems(replace(WELL, alerts=["tombstones_held"]))
    assert "`headshot-mirror pulls release ID` or `headshot-mirror pulls reject ID`" in problem.action


def test_advice_beside_up_about_a_given_server_names_no_log() -> None:
    local = LocalUp(".headshot-mirror/live", is_new=False, servers=["redis"])
    postgres, redis = problems(ProblemFacts(postgres="refused", redis="refused", local=local))
    assert postgres.action == problems(ProblemFacts(postgres="refused"))[0].action
    assert redis.action == "end `up` and run it again; .headshot-mirror/live/valkey/log says why it ended"


def test_process_knows_the_up_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUN_BY_UP", raising=False)
    assert this_up() is None
    monkeypatch.setenv("RUN_BY_UP", ".headshot-mirror/live of mine:redis")
    assert this_up() == LocalUp(".headshot-mirror/live of mine", is_new=False, servers=["redis"])


def test_verdict_where_pulls_were_not_read_is_of_the_processes() -> None:
    local = LocalUp("folder", is_new=False)
    assert verdict(replace(WELL, pulled=None, local=local), 0) == "OK"


def test_nothing_that_runs_at_all_is_a_problem_at_once() -> None:
    assert codes(processes=[]) == ["web_missing", "worker_missing", "clock_missing"]


def test_mirror_that_only_pulls_needs_no_web() -> None:
    assert codes(processes=running(web=None), expected=("worker", "clock")) == []


def test_verdict_is_one_line_with_what_waits() -> None:
    facts = replace(WELL, processes=running(worker=25))
    assert verdict(facts, 270) == "PROBLEM: no worker seen for 25 s; 270 events waiting"
    assert verdict(facts, 0) == verdict(facts, None) == "PROBLEM: no worker seen for 25 s"


@pytest.mark.parametrize(("seconds", "words"), [(119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h")])
def test_long_absence_is_told_in_larger_units(seconds: float, words: str) -> None:
    (problem,) = problems(replace(WELL, processes=running(clock=seconds)))
    assert problem.message == f"no clock seen for {words}"


def test_servers_and_schema_are_named_before_all_else() -> None:
    facts = ProblemFacts(
        postgres="refused", redis="timed out", schema=SchemaOutdated("it is old"), inbox="full", alerts=("pull_stale",)
    )
    assert [problem.code for problem in problems(facts)] == [
        "postgres_unavailable", "redis_unavailable", "schema_outdated", "inbox_full", "pull_stale",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {*MODEL_KINDS, WORKER_MISSING}))
def test_open_alert_about_the_mirror_is_a_problem(kind: str) -> None:
    (problem,) = problems(replace(WELL, alerts=(kind,)))
    assert problem.code == kind
    assert problem.message
    assert problem.action


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_alert_about_a_model_is_no_problem_of_the_mirror(kind: str) -> None:
    assert codes(alerts=(kind,)) == []


def test_missing_worker_is_one_problem_whatever_its_alert_says() -> None:
    assert codes(alerts=(WORKER_MISSING,), processes=running(worker=70)) == [WORKER_MISSING]
    # It is back, and its alert not resolved yet.
    assert codes(alerts=(WORKER_MISSING,)) == []


def test_alert_of_newer_code_is_a_problem_by_its_name() -> None:
    (problem,) = problems(replace(WELL, alerts=("of_tomorrow",)))
    assert problem.message == "of_tomorrow"
    assert "alerts list" in problem.action


def test_unknown_clock_of_postgres_says_nothing_of_processes() -> None:
    assert problems(ProblemFacts(redis="gone"))[0].code == "redis_unavailable"
    assert len(problems(ProblemFacts(redis="gone"))) == 1


def upstream(
    error: str, complete_at: datetime | None = None, *, kind: str = "full", failures: int | None = 1, **facts: Any
) -> list[tuple[str, str, str]]:
    pull = FailingPull(kind, error, failures, complete_at)
    return [tuple(problem) for problem in problems(replace(WELL, failing_pulls=[pull], **facts))]  # type: ignore[misc]


def test_refused_key_is_named_with_its_status_and_once() -> None:
    ((code, message, action),) = upstream("the upstream refused: 401 UNAUTHORIZED", alerts=["api_rejected"])
    assert (code, message) == ("api_rejected", "HeadshotPro refuses the API key (401)")
    assert "HEADSHOTPRO_API_KEY" in action


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://server.headshotpro.com", True),
        ("https://server.headshotpro.com/api/v2", False),
        ("https://proxy.example/vendor/api/v2/", False),
    ],
)
def test_pull_that_fails_is_explained_with_the_url(url: str, asked: bool) -> None:
    ((code, message, action),) = upstream("connection refused", api_url=url)
    assert (code, message) == ("pull_failing", "no full pull is complete: connection refused")
    assert (url in action, "did you forget /api/v2?" in action) == (True, asked)


@pytest.mark.parametrize(
    ("error", "where"),
    [
        ("another transaction holds a lock: canceling statement due to lock timeout", "pg_locks"),
        ("Postgres ended a statement that took longer than its limit: it is overloaded", "pg_locks"),
        ("none of 7 models could be written; the table set_aside has the reasons", "set_aside"),
    ],
)
def test_pull_that_postgres_ends_is_explained_with_postgres(error: str, where: str) -> None:
    ((code, _message, action),) = upstream(error, api_url="https://server.headshotpro.com")
    assert (code, where in action, "HEADSHOTPRO_API_URL" in action) == ("pull_failing", True, False)


# The worker started an hour ago.
BEFORE_THE_START, AFTER_THE_START = NOW - timedelta(minutes=61), NOW - timedelta(minutes=59)


@pytest.mark.parametrize(
    ("complete_at", "failures", "reported"),
    [
        (BEFORE_THE_START, 1, True),
        (AFTER_THE_START, 1, False),
        (AFTER_THE_START, 2, True),
        (AFTER_THE_START, None, True),
    ],
)
def test_later_pull_failure_is_a_problem_when_it_lasts(
    complete_at: datetime, failures: int | None, reported: bool
) -> None:
    found = upstream("connection refused", complete_at, failures=failures)
    assert [code for code, _message, _action in found] == (["pull_failing"] if reported else [])


@pytest.mark.parametrize("kind", ["full", "hot"])
def test_key_that_is_refused_later_is_left_to_its_alert(kind: str) -> None:
    refused = "the upstream refused: 401 UNAUTHORIZED"
    assert upstream(refused, AFTER_THE_START, kind=kind, failures=None) == []
    ((code, _message, _action),) = upstream(refused, AFTER_THE_START, kind=kind, failures=None, alerts=["api_rejected"])
    assert code == "api_rejected"


def test_later_failure_of_hot_pulls_names_their_kind() -> None:
    ((_code, message, _action),) = upstream("timed out", AFTER_THE_START, kind="hot", failures=None)
    assert message == "hot pulls fail: timed out"
