"""`/livez` and `/readyz`: which servers they check, and what their public response shows."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.storage.migrations.schema import migrate
from tests.support.system import event_body, new_id
from tests.support.webhook_endpoint import client_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.drainer import Drainer


def test_livez_needs_no_server(folder: Path) -> None:
    answer = client_of(folder).get("/livez")
    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_readyz_has_a_line_for_each_of_postgres_redis_and_schema(
    folder: Path, redis_url: str, database_url: str
) -> None:
    answer = client_of(folder, REDIS_URL=redis_url, DATABASE_URL=database_url).get("/readyz")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    postgres, redis_line, schema = answer.text.splitlines()
    assert postgres == "postgres: ok"
    assert redis_line.startswith("redis: ok, an event survives")
    assert schema.startswith("schema: ok, revision ")


def test_readyz_is_200_while_redis_accepts_and_postgres_is_down(folder: Path, redis_url: str) -> None:
    answer = client_of(folder, REDIS_URL=redis_url).get("/readyz")
    assert answer.status_code == 200
    assert [line.split(" ")[:2] for line in answer.text.splitlines()] == [
        ["postgres:", "unavailable"],
        ["redis:", "ok,"],
        ["schema:", "unknown"],
    ]
    assert "hunter2" not in answer.text


def test_readyz_is_200_while_postgres_accepts_and_redis_is_down(folder: Path, database_url: str) -> None:
    answer = client_of(folder, DATABASE_URL=database_url).get("/readyz")
    assert answer.status_code == 200
    assert "redis: unavailable" in answer.text
    assert "deliveries are kept in Postgres meanwhile" in answer.text
    assert "postgres: ok" in answer.text
    assert "hunter2" not in answer.text


def test_readyz_is_503_when_nobody_can_take_a_delivery(folder: Path) -> None:
    answer = client_of(folder).get("/readyz")
    assert answer.status_code == 503
    # Anybody may read it: not a word of where the servers are, or of who we are there.
    assert answer.text == "postgres: unavailable\nredis: unavailable\nschema: unknown\n"


def test_readyz_hides_role_and_database_that_postgres_refuses(folder: Path, redis_url: str, database_url: str) -> None:
    parts = urlsplit(database_url)
    strange = parts._replace(
        netloc=f"nosuchrole:hunter2@{parts.hostname}:{parts.port}", path="/nosuchdatabase"
    ).geturl()
    answer = client_of(folder, REDIS_URL=redis_url, DATABASE_URL=strange).get("/readyz")
    assert answer.status_code == 200
    for word in ("nosuch", "hunter2", str(parts.hostname), str(parts.port), "FATAL"):
        assert word not in answer.text


def test_readyz_warns_long_before_the_inbox_is_full(
    folder: Path, redis_url: str, database_url: str, drainer: Drainer
) -> None:
    endpoint = client_of(folder, REDIS_URL=redis_url, DATABASE_URL=database_url, INBOX_LIMIT="20")
    drainer.put(event_body(new_id()), event_body(new_id()))
    answer = endpoint.get("/readyz")
    assert answer.status_code == 200
    assert "2 events wait, at 20 it takes no more" in answer.text


def test_readyz_names_a_schema_that_is_too_old(folder: Path, redis_url: str, empty_database_url: str) -> None:
    endpoint = client_of(folder, REDIS_URL=redis_url, DATABASE_URL=empty_database_url)
    assert "schema: outdated" in endpoint.get("/readyz").text
    migrate(empty_database_url)
    assert "schema: ok" in endpoint.get("/readyz").text
