"""A wrong setup is explained by `status` as soon as the first pull has tried it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.mirror.pull_slice import HOT
from service.storage import pulls
from service.storage.database import transaction
from tests.support.cli import Cli
from tests.support.heartbeats import insert_heartbeat
from tests.support.mirror import Mirror
from tests.support.system import NOWHERE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartSandbox
    from tests.support.mirror import StartMirror


def problem_of(here: Mirror, folder: Path) -> tuple[str, str, str]:
    """The one problem that `status` reports: its code, message and action."""
    insert_heartbeat(here.variables["DATABASE_URL"])
    done = Cli(folder, **here.variables).run("status", "--json")
    (problem,) = done.document["problems"]
    assert done.status == 1
    return problem["code"], problem["message"], problem["action"]


def test_refused_key_is_explained_after_one_pull(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=3, settings={"headshotpro_api_key": "revoked"})
    here.slice()
    code, message, action = problem_of(here, folder)
    assert (code, message) == ("api_rejected", "HeadshotPro refuses the API key (401)")
    assert "HEADSHOTPRO_API_KEY" in action


def test_unreachable_url_is_explained_while_the_pull_rests(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=3, settings={"headshotpro_api_url": NOWHERE})
    here.slice()
    (row,) = here.sql("select status, error from headshotpro.pulls")
    assert (row["status"], row["error"]) == ("running", "GET /organization: cannot connect: Connection refused")
    code, message, action = problem_of(here, folder)
    assert (code, message) == ("pull_failing", f"no full pull is complete: {row['error']}")
    assert NOWHERE in action


def test_url_without_the_api_path_is_asked_about(
    sandbox: StartSandbox, database_url: str, redis_url: str, folder: Path
) -> None:
    vendor = sandbox(quiet=True, models=3)
    here = Mirror(vendor, database_url, redis_url, headshotpro_api_url=vendor.url.removesuffix("/api/v2"))
    here.slice()
    code, _message, action = problem_of(here, folder)
    assert (code, action.startswith("did you forget /api/v2? ")) == ("pull_failing", True)
    here.close()


@pytest.mark.parametrize("status", ["complete", "held"])
def test_pull_that_goes_on_has_no_error(mirror: StartMirror, status: str) -> None:
    here = mirror(models=3)
    here.set_switches(errors=1)
    here.slice()
    (row,) = here.sql("select status, error is null as fine from headshotpro.pulls")
    assert (row["status"], row["fine"]) == ("running", False)
    here.set_switches(errors=0)
    if status == "held":
        here.sql("insert into headshotpro.organization (uid, recorded_at) values ('another', now())")
    here.slice(wake=True)
    (row,) = here.sql("select status, error from headshotpro.pulls")
    assert row["status"] == status
    assert (row["error"] is None) == (status == "complete")


def failing(here: Mirror) -> list[tuple[str, str, int | None]]:
    """The pulls that fail now: kind, error, tries in a row."""
    with transaction(here.runtime.engine) as connection:
        return [pull[:3] for pull in pulls.failing(connection)]


def test_outage_after_a_complete_pull_is_seen_by_hot_pulls(mirror: StartMirror) -> None:
    here = mirror(models=3)
    here.slice()
    assert failing(here) == []
    here.set_switches(errors=1)
    here.slice(kind=HOT)
    assert [(kind, failures) for kind, _error, failures in failing(here)] == [("hot", 1)]
    here.slice(kind=HOT, wake=True)
    ((kind, error, failures),) = failing(here)
    assert (kind, failures) == ("hot", 2)
    here.sql("update headshotpro.pulls set status = 'failed', finished_at = now() where kind = 'hot'")
    here.sql("delete from headshotpro.pull_checkpoints")
    assert failing(here) == [("hot", error, None)]
    # The next one has begun and read nothing yet.
    here.sql("insert into headshotpro.pulls (kind, status, started_at) values ('hot', 'running', now())")
    assert failing(here) == [("hot", error, None)]
    here.sql("update headshotpro.pulls set pages = 1 where status = 'running'")
    assert failing(here) == []
