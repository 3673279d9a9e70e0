"""Backup and restore, as the runbook has it: an old dump, the inbox and the next pull end where the vendor is."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.storage.migrations import schema
from tests.support.mirror import Mirror
from tests.support.processes import eventually
from tests.support.system import rows

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.servers import Postgres
    from tests.support.cli import Cli
    from tests.support.mirror import StartMirror

MODELS = 60


class FeedReader:
    """A service that follows `model_changes` by the last id that it has seen, and keeps a copy of the rows.

    Attributes:
        statuses: model to its status.
    """

    def __init__(self) -> None:
        self._last_id = 0
        self.statuses: dict[str, str | None] = {}

    def follow(self, url: str) -> int:
        """Take what is new: how many changes."""
        query = "select * from headshotpro.model_changes where id > %s order by id"
        news = rows(url, query, self._last_id)
        for change in news:
            self._last_id = change["id"]
            if "status" in change["changed"]:
                self.statuses[change["model_id"]] = change["changed"]["status"][1]
        return len(news)


@pytest.fixture
def lost(mirror: StartMirror) -> Mirror:
    """A mirror in use, whose database will be lost."""
    one = mirror(models=MODELS)
    one.enable_webhooks()
    settle(one)
    return one


def run(server: Postgres, program: str, *arguments: str | Path) -> None:
    subprocess.run([server.binary.program.with_name(program), *arguments], check=True, timeout=60)


def change_much(mirror: Mirror) -> None:
    """An hour of the vendor's: births, deaths, changes, half of them announced by webhooks."""
    mirror.advance_vendor_clock(60)
    ids = sorted(mirror.live_ids())
    mirror.create(4, events=True)
    mirror.create(4)
    for number, model in enumerate(ids[:20]):
        mirror.change(model, status=("failed", "pending", "active")[number % 3], title="Later", events=number % 2 == 0)
    for model in ids[20:24]:
        mirror.vendor.control("DELETE", f"/models/{model}?events=1")
    mirror.vanish(*ids[24:27])


def settle(mirror: Mirror) -> None:
    """Do the workers' jobs until no request is left."""
    mirror.advance_vendor_clock(60)
    mirror.apply_webhooks()
    assert mirror.pull()["status"] == "complete"
    while mirror.refetch_requests():
        mirror.make_refetches_due()
        mirror.refetch()


def test_an_old_dump_the_inbox_and_a_pull_bring_it_level(
    lost: Mirror, folder: Path, postgres: Postgres, empty_database_url: str, cli: Cli
) -> None:
    lost_url = lost.settings.postgres_url
    reader = FeedReader()
    reader.follow(lost_url)
    run(postgres, "pg_dump", "-Fc", "-n", "headshotpro", "-f", folder / "dump", lost_url)
    change_much(lost)
    settle(lost)
    reader.follow(lost_url)
    # These are accepted, and still in the inbox when the database is lost.
    change_much(lost)
    born = lost.create(1, events=True)[0]["id"]
    assert eventually(lambda: lost.vendor.control("GET", "/deliveries")["waiting"] == 0)
    assert lost.runtime.inbox.depth().events >= 5

    run(postgres, "pg_restore", "--exit-on-error", "-d", empty_database_url, folder / "dump")
    settings: dict[str, Any] = {**lost.variables, "DATABASE_URL": empty_database_url}
    assert cli.run("migrate", **settings).status == 0
    schema.compare(empty_database_url)
    assert cli.run("restored", **settings).out.startswith("model_changes continues after 1000000000.")
    restored = Mirror(lost.vendor._sandbox, empty_database_url, lost.settings.redis)
    try:
        settle(restored)
        assert restored.differences() == []
        # The fields that only its webhook contains came out of the inbox.
        assert restored.model(born)["trigger"]
    finally:
        restored.close()
    done = cli.run("verify", **settings)
    assert done.status == 0, done.out
    assert reader.follow(empty_database_url) > 0
    mirrored = {row["id"]: row["status"] for row in rows(empty_database_url, "select * from headshotpro.models")}
    assert {model: reader.statuses[model] for model in mirrored} == mirrored


def test_numbers_are_given_out_once_whoever_asks(database_url: str, cli: Cli) -> None:
    add = """
        insert into headshotpro.model_changes (model_id, changed, source, observed_at, recorded_at)
        values ('a', '{}', 'pull', now(), now()) returning id
    """
    seen = [rows(database_url, add)[0]["id"]]
    for _ in range(2):
        assert cli.run("restored").status == 0
        seen.append(rows(database_url, add)[0]["id"])
    assert seen == [1, 1_000_000_001, 2_000_000_001]


def test_one_who_may_not_move_numbers_is_told_so(postgres: Postgres, database_url: str, cli: Cli) -> None:
    name = "mirror_restorer"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"create role {name} login password 'x'".encode())
        try:
            connection.execute(f"grant usage on schema headshotpro to {name}".encode())
            connection.execute(f"grant select on all tables in schema headshotpro to {name}".encode())
            url = f"postgresql://{name}:x@127.0.0.1:{postgres.port}/{database_url.rpartition('/')[2]}"
            done = cli.run("restored", DATABASE_URL=url)
        finally:
            connection.execute(f"drop owned by {name}".encode())
            connection.execute(f"drop role {name}".encode())
    assert done.status == 2
    assert "run this as the user that runs `migrate`" in done.err
