"""Messages of servers and input of callers: no secret and no row of Postgres gets into a log or a response."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError

from service import config
from service.errors import MirrorError
from service.storage import api_queries
from tests.support.api import MODELS, Api
from tests.support.cli import Cli
from tests.support.webhook_endpoint import assert_refused
from workers.job_errors import redact_job_errors

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpserver import HTTPServer

    from tests.support.mirror import Mirror

API_KEY = "hsp_key-that-the-vendor-repeats"
PERSON = "ada@leak.example"
WORDS = f"duplicate key\nDETAIL:  Key (email)=({PERSON}) already exists."
STATEMENT = "SELECT secret_sql"


@pytest.fixture
def talkative(httpserver: HTTPServer, database_url: str, redis_url: str, folder: Path) -> dict[str, str]:
    """Settings of a mirror whose vendor repeats the key that it was sent."""
    error = {"success": False, "error": f"no shard for Bearer {API_KEY}", "code": "INTERNAL"}
    # Where a long message is cut, half of the key would be left.
    long = {"success": False, "error": f"{'x' * 280} {API_KEY}", "code": "INTERNAL"}
    httpserver.expect_request("/api/v2/organization", method="GET").respond_with_json(error, 403)
    for method in ("GET", "POST", "DELETE"):
        httpserver.expect_request("/api/v2/organization/models", method=method).respond_with_json(error, 500)
    httpserver.expect_request("/api/v2/organization/models/a", method="GET").respond_with_json(error, 400)
    httpserver.expect_request("/api/v2/organization/models/b", method="GET").respond_with_json(long, 500)
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "HEADSHOTPRO_API_URL": httpserver.url_for("/api/v2"),
        "HEADSHOTPRO_API_KEY": API_KEY,
        "MIRROR_API_KEYS": "key-of-ours",
        "LOG_LEVEL": "debug",
    }


def test_key_that_the_vendor_repeats_is_redacted_everywhere(
    talkative: dict[str, str], folder: Path, mirrored: Mirror, capfd: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(folder, **talkative)
    printed = [cli.run("doctor"), cli.run("pull"), cli.run("pulls", "list"), cli.run("status")]
    settings = config.load(environ=talkative, dotenv=folder / ".env")
    api = Api.of(mirrored, **{name: getattr(settings, name) for name in ("headshotpro_api_url", "headshotpro_api_key")})
    answers = [api.call("GET", "/a?fresh=true"), api.call("POST", "", {"email": "b@c.example"})]
    answers.append(api.call("GET", "/b?fresh=true"))
    assert [answer.status_code for answer in answers] == [400, 500, 500]
    stored = mirrored.sql("select concat(error) as error from headshotpro.pulls")
    logged = capfd.readouterr().err
    everything = "\n".join([logged, *map(str, printed), *(answer.text for answer in answers), json.dumps(stored)])
    assert API_KEY not in everything
    assert API_KEY[:10] not in everything
    # The rest of the vendor's words is kept: they say what is wrong.
    assert "no shard for Bearer [redacted]" in everything


def test_sql_of_a_failing_read_is_in_no_log_and_no_response(
    mirrored: Mirror, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_connection: Any, _model_id: str) -> None:
        raise IntegrityError(STATEMENT, {"email": PERSON}, psycopg.errors.UniqueViolation(WORDS))

    monkeypatch.setattr(api_queries, "one", fail)
    answer = Api.of(mirrored).call("GET", "/507f1f77bcf86cd799439011")
    assert_refused(answer, 500, "ERROR")
    logged = capfd.readouterr().err
    assert "IntegrityError" in logged
    for word in (PERSON, "DETAIL", "secret_sql"):
        assert word not in logged + answer.text


def test_rq_gets_no_words_of_a_failed_job(capfd: pytest.CaptureFixture[str]) -> None:
    @redact_job_errors
    def job() -> None:
        raise psycopg.errors.UniqueViolation(WORDS)

    with pytest.raises(MirrorError, match="UniqueViolation at ") as failed:
        job()
    assert failed.value.__suppress_context__
    assert PERSON not in str(failed.value) + capfd.readouterr().err


def test_command_that_fails_prints_no_row(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any) -> None:
        raise psycopg.errors.UniqueViolation(WORDS)

    monkeypatch.setattr("service.storage.console_events.page", fail)
    done = cli.run("events", "list")
    assert done.status == 1
    assert "UniqueViolation" in done.err
    assert PERSON not in done.err


NOT_IDS = ("%00", "a%00b", "%ED%A0%80", "%ff", "%0a", "%1b[31m", "x" * 256, "%F0%9F%98%80" * 64, "%E2%80%AE")


@pytest.mark.parametrize("model_id", NOT_IDS)
def test_what_cannot_be_an_id_is_a_404_and_asks_no_server(mirrored: Mirror, model_id: str) -> None:
    api = Api.of(mirrored)
    mirrored.forget_requests()
    for method, query in (("GET", ""), ("GET", "?fresh=true"), ("HEAD", "?fresh=true"), ("DELETE", "")):
        answer = api.app.open(
            f"{MODELS}/{model_id}{query}", method=method, headers={"Authorization": "Bearer key-of-ours"}
        )
        assert answer.status_code == 404, (method, query)
    assert not mirrored.request_counts("/organization/models/:modelId")


ODD = (
    "%00",
    "%ED%A0%80",
    "%ff",
    "1" * 3000,
    "-1",
    "1e999",
    "9" * 40,
    "%D9%A3",
    "0x10",
    "NaN",
    "true%00",
    "'%22;--",
    "+",
)
PARAMETERS = (
    "limit", "offset", "status", "teamId", "email", "isDevelopment", "createdAfter", "createdBefore", "includeDeleted",
    "updatedSince", "fresh", "cursor", "%00", "nobodys",
)  # fmt: skip


def test_no_parameter_makes_an_error_of_ours(mirrored: Mirror, capfd: pytest.CaptureFixture[str]) -> None:
    api = Api.of(mirrored, log_level="info")
    one = api.ids("?limit=1")[0]
    for name in PARAMETERS:
        for value in ODD:
            for path in ("", f"/{one}"):
                answer = api.call("GET", f"{path}?{name}={value}")
                assert answer.status_code in (200, 400, 404, 410), (name, value, answer.text)
                assert answer.json is not None
    for key in ("", "\0", "ü", "\x7f", "x" * 256, "a\tb"):
        answer = api.call("POST", "", {"email": "a@b.example"}, Idempotency_Key=key)
        assert answer.status_code == 400, repr(key)
    for tag in ('"' * 3000, "W/", "*", '"\0"', "ü"):
        assert api.call("GET", "", If_None_Match=tag).status_code in (200, 304)
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "SELECT" not in said
