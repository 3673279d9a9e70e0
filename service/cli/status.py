"""`headshot-mirror status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from service import config
from service.cli.output import json_option, print_json, shown
from service.errors import InboxUnavailable, MirrorError, SchemaOutdated, StorageUnavailable

if TYPE_CHECKING:
    from service.config import Settings

NEEDS = ("DATABASE_URL", "REDIS_URL")

FROM_POSTGRES = (
    "models", "last_complete_pull_at", "pull_age_seconds", "open_alerts", "missed_webhooks", "open_questions",
)  # fmt: skip


@click.command(epilog="Example: headshot-mirror status --json | jq .pull_age_seconds")
@json_option
def status(*, as_json: bool) -> None:
    """How fresh and how complete the mirror is; what waits.

    What a server that is gone would tell is null, and `problems` says which one it is.
    """
    settings = config.load(NEEDS)
    report = gather(settings)
    if len(report["problems"]) == len(NEEDS):
        raise MirrorError("; ".join(report["problems"]))
    if as_json:
        print_json(report)
    else:
        _print(report)


def gather(settings: Settings) -> dict[str, Any]:
    """Everything that the command reports."""
    problems: list[str] = []
    report: dict[str, Any] = {"events_waiting": None, "oldest_waiting_seconds": None}
    report.update(dict.fromkeys(FROM_POSTGRES))
    report["requests_left"] = None
    spooled, spooled_age = _ask_postgres(settings, report, problems)
    _ask_redis(settings, report, problems, spooled, spooled_age)
    return {**report, "problems": problems}


def _ask_postgres(settings: Settings, report: dict[str, Any], problems: list[str]) -> tuple[int, float | None]:
    """Fill in what Postgres knows; how many events its spool holds, and the age of the oldest."""
    from service.storage import database
    from service.storage.report import snapshot

    try:
        with database.transaction(database.connect(settings.postgres_url)) as connection:
            taken = snapshot(connection)
    except (StorageUnavailable, SchemaOutdated) as error:
        problems.append(str(error))
        return 0, None
    report.update({name: getattr(taken, name) for name in FROM_POSTGRES})
    return taken.spooled_events, taken.oldest_spooled_seconds


def _ask_redis(
    settings: Settings, report: dict[str, Any], problems: list[str], spooled: int, spooled_age: float | None
) -> None:
    """Fill in what Redis knows, and add the spool to what waits."""
    from service import inbox
    from service.upstream.budget import Budget

    try:
        client = inbox.connect(settings.redis)
        depth = inbox.Inbox(client).depth()
        report["requests_left"] = Budget(client, settings.rate_budget, settings.detail_budget).requests_left()
    except InboxUnavailable as error:
        problems.append(str(error))
        return
    report["events_waiting"] = depth.events + spooled
    ages = [age for age in (depth.oldest_seconds, spooled_age) if age is not None]
    report["oldest_waiting_seconds"] = max(ages, default=None)


def _print(report: dict[str, Any]) -> None:
    for name, value in report.items():
        if name == "models":
            counts = ", ".join(f"{count} {status}" for status, count in (value or {}).items())
            click.echo(f"{name:<24} {counts or '-'}")
        elif name == "problems":
            for problem in value:
                click.echo(f"problem: {problem}", err=True)
        else:
            click.echo(f"{name:<24} {shown(round(value, 1) if isinstance(value, float) else value)}")
