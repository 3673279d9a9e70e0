"""Schemathesis against a real web process: every call as the OpenAPI document describes it, and as it does not."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api import KEY, KEYS, READ_KEY
from tests.support.mirror import Mirror
from tests.support.servers import new_database, temporary_folder
from tests.support.system import System

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres, Valkey
    from tests.support.sandboxes import Sandboxes

SEED = "1"


# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("schemathesis")


@pytest.fixture(scope="module")
def mirrored(postgres: Postgres, valkey: Valkey, _sandboxes: Sandboxes) -> Iterator[Mirror]:
    """A mirror of forty models and a sandbox that refuses nothing for its rate."""
    options = {"models": 40, "quiet": True, "rate": 0}
    sandbox = _sandboxes.take(options)
    with new_database(postgres) as url:
        mirror = Mirror(sandbox, url, valkey.url)
        assert mirror.pull()["status"] == "complete"
        yield mirror
        mirror.close()
    _sandboxes.release(sandbox, options)


@pytest.fixture(scope="module")
def system(mirrored: Mirror) -> Iterator[System]:
    with (
        temporary_folder() as folder,
        System(folder, **mirrored.variables | {"MIRROR_API_KEYS": KEYS, "RATE_BUDGET": "1"}) as running,
    ):
        running.start("web")
        running.wait_for_web()
        yield running


@pytest.fixture
def web(system: System, mirrored: Mirror) -> System:
    """A web process that has counted no wrong key: beyond ten a minute they get a 429, and each test sends some."""
    mirrored.runtime.redis.flushdb()
    return system


def findings(web: System, key: str, *options: str) -> str:
    """Its report, empty where it found nothing."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{web.url}/api/openapi.json",
        "--header", f"Authorization: Bearer {key}", "--checks", "all", "--seed", SEED, "--no-color", *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=web.folder, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr + web.logs()


def writes(mirrored: Mirror) -> list[dict[str, Any]]:
    """The requests of the vendor's that change something, counted since its start."""
    return [row for row in mirrored.vendor.control("GET", "/requests")["requests"] if row["method"] != "GET"]


@pytest.mark.long
def test_reads_as_described(web: System) -> None:
    assert not findings(web, READ_KEY, "--include-method", "GET", "--max-examples", "20")


def test_all_calls_as_described(web: System) -> None:
    # Only the vendor knows some errors of a create or a delete: an address that has its model, one deleted before.
    options = ("--max-examples", "5", "--exclude-checks", "positive_data_acceptance")
    assert not findings(web, KEY, *options, "--exclude-path-regex", "^/subscriptions")


@pytest.mark.long
def test_calls_about_subscriptions_as_described(web: System) -> None:
    # A name may be taken. With this many calls, wrong keys would come to more than ten a minute, and get a 429.
    options = ("--max-examples", "5", "--exclude-checks", "positive_data_acceptance,ignored_auth")
    assert not findings(web, KEY, *options, "--include-path-regex", "^/subscriptions")


@pytest.mark.long
def test_a_key_that_may_only_read_is_told_so_whatever_it_sends(web: System, mirrored: Mirror) -> None:
    options = ("--include-method", "POST", "--include-method", "DELETE", "--max-examples", "5", "--phases", "fuzzing")
    before = writes(mirrored)
    assert not findings(web, READ_KEY, *options)
    assert writes(mirrored) == before
