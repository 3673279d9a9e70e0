"""/metrics: its readers, its counts, that every process shows the same, and the cost of a dead server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.broker import counters
from service.broker.client import connect_redis
from service.broker.inbox import Delivery
from service.mirror import accuracy_figures
from service.storage.database import transaction
from tests.support.processes import eventually, suspended
from tests.support.system import System, event_body, new_id, signed
from tests.support.webhook_endpoint import assert_refused, client_of, post

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

    from service.local.servers import Postgres, Valkey
    from tests.support.mirror import StartMirror

READER = {"Authorization": "Bearer look"}
Samples = dict[tuple[str, str], float]


def samples(page: str) -> Samples:
    """Every sample by its name and its labels' values."""
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def scraped(web: FlaskClient) -> Samples:
    answer = web.get("/metrics", headers=READER)
    assert answer.status_code == 200
    return samples(answer.text)


def website(folder: Path, **settings: str) -> FlaskClient:
    return client_of(folder, MIRROR_API_KEYS="ro:look, full", **settings)


# --- who may read


def test_only_a_key_opens_it(folder: Path) -> None:
    web = website(folder)
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic look"}):
        answer = web.get("/metrics", headers=header)
        assert_refused(answer, 401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for key in ("look", "full"):
        assert web.get("/metrics", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_without_keys_nobody_reads_it(folder: Path) -> None:
    assert_refused(client_of(folder).get("/metrics", headers=READER), 401, "UNAUTHORIZED")


def test_prometheus_may_ask_for_its_newer_format(folder: Path) -> None:
    answer = website(folder).get("/metrics", headers={**READER, "Accept": "application/openmetrics-text"})
    assert answer.mimetype == "application/openmetrics-text"
    assert answer.text.endswith("# EOF\n")


# --- what it shows


def test_deliveries_count_by_result_and_stale_is_not_forged(folder: Path, redis_url: str) -> None:
    web = website(folder, REDIS_URL=redis_url)
    body = event_body(new_id())
    post(web, body)
    post(web, body)
    post(web, body, X_HeadshotPro_Signature="sha256=00")
    post(web, body, **{name.replace("-", "_"): value for name, value in signed(body, at=time.time() - 999).items()})
    post(web, b"no JSON")
    post(web, b" " * 300_000)
    post(web, body, Content_Type="text/plain")
    expected = {
        "accepted": 2,
        "forged": 1,
        "stale": 1,
        "malformed": 1,
        "too_large": 1,
        "media_type": 1,
        "unreadable": 0,
        "unavailable": 0,
    }

    def found() -> dict[str, float]:
        return {key[1]: value for key, value in scraped(web).items() if key[0] == "headshotpro_deliveries_total"}

    assert eventually(lambda: found() == expected), found()


def test_a_mirror_tells_what_it_holds_and_what_its_pulls_did(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=30)
    here.pull()
    here.sql(
        "insert into headshotpro.alerts (kind, model_id, opened_at) values ('model_failed', 'a', now()), "
        "('model_failed', 'b', now())"
    )
    here.sql(
        "insert into headshotpro.event_spool (body, signed_at, received_at) values ('', 0, now() - '1 h'::interval)"
    )
    here.runtime.inbox.put(Delivery.arrived(b"{}", 0, here.sql("select now()")[0]["now"]))
    here.runtime.counters.flush()
    here.sql(
        "insert into headshotpro.event_lags (id, events, event_lag_p99, delivery_lag_p50, computed_at) "
        "values (1, 7, 0.25, -3, now())"
    )
    with transaction(here.runtime.engine) as connection:
        accuracy_figures.compute(connection, 0.0001)
    here.sql(
        "update headshotpro.accuracy_figures set rate = 0.1, upper_95 = 0.2, stale_p50 = 3, stale_max = 9, "
        "unexplained = 1 where period = '24h' and fields = 'list'"
    )
    variables = {name: value for name, value in here.variables.items() if value}
    told = scraped(website(folder, **variables))
    (pull,) = here.sql("select * from headshotpro.pulls")
    by_status = {
        row["status"]: row["n"] for row in here.sql("select status, count(*) as n from headshotpro.models group by 1")
    }
    statuses = {key[1]: value for key, value in told.items() if key[0] == "headshotpro_models"}
    assert {status: number for status, number in statuses.items() if number} == by_status
    assert statuses["failed"] == by_status.get("failed", 0)
    assert told["headshotpro_alerts_open", "model_failed"] == 2
    assert told["headshotpro_alerts_open", "api_rejected"] == 0
    assert told["headshotpro_pull_pages_total", "full"] == pull["pages"]
    assert told["headshotpro_pull_changes_total", "full"] == pull["inserted"] == 30
    assert told["headshotpro_pull_duration_seconds_count", "full"] == 1
    assert told["headshotpro_pull_duration_seconds_sum", "full"] == pytest.approx(
        (pull["finished_at"] - pull["started_at"]).total_seconds(), abs=0.001
    )
    assert told["headshotpro_pulls", "full complete"] == 1
    assert told["headshotpro_missed_webhooks_total", "full"] == told["headshotpro_lost_webhooks_total", "full"] == 0
    assert {key: value for key, value in told.items() if "_lag_seconds" in key[0]} == {
        ("headshotpro_event_lag_seconds", "0.99"): 0.25, ("headshotpro_delivery_lag_seconds", "0.5"): -3,
    }  # fmt: skip
    assert told["headshotpro_accuracy_rate", "list 24h"] == 0.1
    assert told["headshotpro_accuracy_rate_upper", "list 24h"] == 0.2
    assert told["headshotpro_accuracy_unexplained", "list 24h"] == 1
    assert told["headshotpro_accuracy_target", "detail 1h"] == 0.0001
    assert told["headshotpro_accuracy_stale_seconds", "list 24h 0.5"] == 3
    assert told["headshotpro_accuracy_stale_seconds", "list 24h 1"] == 9
    computed_at = here.sql("select computed_at as at from headshotpro.accuracy limit 1")[0]["at"].timestamp()
    assert told["headshotpro_accuracy_computed_timestamp_seconds", "list 1h"] == pytest.approx(computed_at, abs=1)
    assert ("headshotpro_accuracy_rate", "list 1h") not in told
    assert 0 <= told["headshotpro_pull_age_seconds", ""] < 60
    assert told["headshotpro_upstream_requests_total", "GET /organization/models 200"] == pull["pages"]
    assert told["headshotpro_upstream_requests_total", "GET /organization 200"] == 1
    assert told["headshotpro_upstream_requests_left", ""] > 0
    assert told["headshotpro_spool_events", ""] == 1
    assert told["headshotpro_spool_oldest_seconds", ""] == pytest.approx(3600, abs=60)
    assert told["headshotpro_inbox_events", ""] == 1
    assert told["headshotpro_inbox_limit_events", ""] == 200_000
    assert told["headshotpro_inbox_oldest_seconds", ""] >= 0
    assert told["headshotpro_dead_events", ""] == told["headshotpro_refetch_requests_open", ""] == 0
    assert [value for key, value in told.items() if key[0] == "headshotpro_build_info"] == [1]


def test_a_status_that_is_no_word_makes_no_label(folder: Path, database_url: str) -> None:
    statuses = ["paused", "a sentence of a person's", "x" * 41, "", "active"]
    insert = "insert into headshotpro.models (id, status, observed_at, updated_at) values (%s, %s, now(), now())"
    with psycopg.connect(database_url) as connection:
        for status in statuses:
            connection.execute(insert, [new_id(), status])
    told = scraped(website(folder, DATABASE_URL=database_url))
    found = {key[1]: value for key, value in told.items() if key[0] == "headshotpro_models" and value}
    assert found == {"paused": 1, "active": 1, "other": 3}


def test_budget_waits_are_counted_by_purpose_of_the_request(mirror: StartMirror) -> None:
    here = mirror({"rate_budget": 0.01}, models=450, rate=100)
    here.slice(seconds=1.0)
    here.runtime.counters.flush()
    counts = counters.read(here.runtime.redis)
    assert counts["upstream_budget_waits", "full"] >= 1
    assert counts["upstream_budget_wait_seconds", "full"] >= 0


@pytest.mark.long
def test_counters_sum_over_processes_and_survive_a_restart(folder: Path, database_url: str, own_valkey: Valkey) -> None:
    settings = {"DATABASE_URL": database_url, "REDIS_URL": own_valkey.url, "MIRROR_API_KEYS": "ro:look"}
    with System(folder, **settings, WEB_CONCURRENCY="2") as system:
        # No clock: each delivery wakes a worker.
        web, *_ = [system.start(role) for role in ("web", "worker", "worker")]
        system.wait_for_web()

        def told(name: str, labels: str = "") -> float | None:
            page = system._send("GET", "/metrics", None, READER)
            return samples(page.data.decode()).get((f"headshotpro_{name}", labels))

        def deliver(number: int) -> None:
            assert [system.deliver(event_body(new_id())).status for _ in range(number)] == [202] * number

        deliver(20)
        # Its last counts leave with the process.
        assert web.stop() == 0
        system.start("web")
        system.wait_for_web()
        deliver(10)
        for name, labels in (("deliveries_total", "accepted"), ("events_total", "applied")):
            assert eventually(lambda name=name, labels=labels: told(name, labels) == 30), (
                told(name, labels),
                system.logs(),
            )
        assert told("event_to_row_seconds_count") == told("event_to_row_seconds_bucket", "+Inf") == 30
        assert 0 < (told("event_to_row_seconds_sum") or 0) < 30 * 60
        assert told("up", "postgres") == told("up", "redis") == 1


# --- servers that are unavailable


def test_what_is_gone_is_told_and_the_rest_served(folder: Path, redis_url: str, database_url: str) -> None:
    nothing = scraped(website(folder))
    assert (nothing["headshotpro_up", "postgres"], nothing["headshotpro_up", "redis"]) == (0, 0)
    only_redis = scraped(website(folder, REDIS_URL=redis_url))
    assert (only_redis["headshotpro_up", "postgres"], only_redis["headshotpro_up", "redis"]) == (0, 1)
    assert ("headshotpro_inbox_events", "") in only_redis
    assert ("headshotpro_models", "active") not in only_redis
    only_postgres = scraped(website(folder, DATABASE_URL=database_url))
    assert (only_postgres["headshotpro_up", "postgres"], only_postgres["headshotpro_up", "redis"]) == (1, 0)
    assert ("headshotpro_models", "active") in only_postgres
    assert ("headshotpro_inbox_events", "") not in only_postgres
    # Without a pull yet, no age is shown.
    assert ("headshotpro_pull_age_seconds", "") not in only_postgres


def test_servers_that_hang_cost_seconds_and_their_own_part(
    folder: Path, own_migrated_postgres: Postgres, own_valkey: Valkey
) -> None:
    web = website(folder, DATABASE_URL=own_migrated_postgres.url, REDIS_URL=own_valkey.url)
    assert scraped(web)["headshotpro_up", "postgres"] == 1
    for server, name in ((own_migrated_postgres, "postgres"), (own_valkey, "redis")):
        with suspended(server):
            before = time.monotonic()
            told = scraped(web)
            assert time.monotonic() - before < 9
        assert [key[1] for key in told if key[0] == "headshotpro_up" and not told[key]] == [name]
    assert eventually(lambda: all(value for key, value in scraped(web).items() if key[0] == "headshotpro_up"))


def test_webhook_endpoint_spends_no_request_on_counting(folder: Path, own_valkey: Valkey) -> None:
    web = website(folder, REDIS_URL=own_valkey.url)
    # A server of its own: what other applications of this process still send would be counted here.
    with connect_redis(own_valkey.url) as client:

        def accepted() -> float:
            return counters.read(client).get(("deliveries", "accepted"), 0)

        post(web, event_body(new_id()))
        assert eventually(lambda: accepted() == 1)
        before: Any = client.info("commandstats")
        begun = time.monotonic()
        for _ in range(20):
            post(web, event_body(new_id()))
        after: Any = client.info("commandstats")
        took = time.monotonic() - begun
        assert eventually(lambda: accepted() == 21)

    def calls(stats: Any, name: str) -> int:
        return int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"])

    # As many flushes as fall into the time of twenty deliveries, which a busy machine stretches.
    assert calls(after, "evalsha") - calls(before, "evalsha") <= took / counters.FLUSH_SECONDS + 2
    assert calls(after, "xadd") - calls(before, "xadd") == 20
