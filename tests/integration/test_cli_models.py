"""`headshot-mirror models`: the API's calls on a command line, for people and for programs."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest

from tests.support.api import Api
from tests.support.cli import Cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mirror import Mirror


@pytest.fixture
def run(mirrored: Mirror, folder: Path) -> Cli:
    """The command line over a mirror; unlike other commands these print addresses."""
    return Cli(folder, **mirrored.variables)


def test_list_shows_what_the_api_shows(mirrored: Mirror, run: Cli) -> None:
    api = Api.of(mirrored)
    team = next(model["teamId"] for model in api.get("?limit=200")["models"] if model["teamId"])
    for options, query in (
        ((), ""),
        (("--limit", "200", "--offset", "3"), "?limit=200&offset=3"),
        (("--status", "active", "--team", team), f"?status=active&teamId={team}"),
        (("--no-development", "--limit", "9"), "?isDevelopment=false&limit=9"),
        (("--updated-since", "0", "--limit", "9"), "?updatedSince=0&limit=9"),
    ):
        rows = run.run("models", "list", "--json", *options).document
        models = api.get(query)["models"]
        assert [row["id"] for row in rows] == [model["id"] for model in models], options
        assert [row["team_name"] for row in rows] == [model["teamName"] for model in models]
    one = models[0]
    assert [row["id"] for row in run.run("models", "list", "--email", one["email"], "--json").document] == [one["id"]]
    table = run.run("models", "list").out.splitlines()
    assert len(table) == 41
    assert table[0].split()[:3] == ["id", "status", "title"]


def test_list_as_csv(mirrored: Mirror, run: Cli) -> None:
    mirrored.sql("update headshotpro.models set title = %s, team_name = null", 'Ada, "the" one')
    rows = list(csv.DictReader(io.StringIO(run.run("models", "list", "--csv", "--limit", "5").out)))
    assert len(rows) == 5
    assert {row["title"] for row in rows} == {'Ada, "the" one'}
    assert {row["team_name"] for row in rows} == {""}
    assert rows[0]["created_at"].endswith("Z")
    assert {row["is_development"] for row in rows} <= {"true", "false"}


def test_misspelt_status_that_finds_nothing_is_named(mirrored: Mirror, run: Cli) -> None:
    done = run.run("models", "list", "--json", "--status", "actve")
    assert (done.status, done.document) == (0, [])
    assert "no status actve; it has onboarding, waiting" in done.err
    assert run.run("models", "list", "--status", "onboarding", "--team", "nosuch").err == ""
    # The vendor may add a status: then it finds models, and is no mistake.
    mirrored.sql("update headshotpro.models set status = 'archived' where status = 'waiting'")
    assert run.run("models", "list", "--status", "archived").err == ""


def test_wrong_filters_are_wrong_usage(run: Cli) -> None:
    for options in (("--created-after", "yesterday"), ("--created-before", "2"), ("--updated-since", "soon")):
        done = run.run("models", "list", *options)
        assert done.status == 2
        assert options[0] in done.err
        assert "or how long ago: 90s, 15m, 1h, 2d" in done.err
    assert run.run("models", "list", "--limit", "0").status == 2


def test_create_show_and_delete(mirrored: Mirror, run: Cli) -> None:
    made = run.run("models", "create", "ada@example.com", "--idempotency-key", "k1", "--json").document
    assert run.run("models", "create", "ada@example.com", "--idempotency-key", "k1", "--json").document == made
    one = made["modelId"]
    assert mirrored.differences(ids={one}) == []
    shown = run.run("models", "show", one)
    assert "onboarding" in shown.out
    assert " api " in shown.out
    asked = run.run("models", "delete", one)
    assert asked.status == 1
    assert mirrored.model(one)["status"] == "onboarding"
    assert "Model deleted successfully" in run.run("models", "delete", one, "--yes").out
    assert mirrored.model(one)["status"] == "deleted"
    again = run.run("models", "delete", one, "--yes")
    assert again.status == 1
    assert "ALREADY_DELETED" in again.err


def test_erased_values_are_shown_as_erased(mirrored: Mirror, run: Cli) -> None:
    one = run.run("models", "create", "ada@example.com", "--json").document["modelId"]
    assert "email - → ada@example.com" in run.run("models", "show", one).out
    assert run.run("models", "delete", one, "--yes").status == 0
    assert run.run("models", "erase", one, "--yes").status == 0
    shown = run.run("models", "show", one).out
    assert "email erased" in shown
    assert "- → -" not in shown
    assert "status - → onboarding" in shown
