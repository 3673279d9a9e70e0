"""`headshot-mirror doctor`: what is wrong with this deployment, and what to do about each thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.cli.opening import NO_SYSTEM, NO_SYSTEM_ADVICE, load_settings, running_system, status_reader
from service.cli.output import json_option, print_json, say, say_in_colour

if TYPE_CHECKING:
    from pathlib import Path

    from service.diagnosis import Finding

MARK_COLOURS = {"ok": "green", "hint": "yellow", "BAD": "red"}


@click.command(epilog="Example: headshot-mirror doctor")
@json_option
def doctor(*, as_json: bool) -> None:
    """Check the whole deployment, and say what to do.

    It checks settings, servers, schema, Redis' durability, clocks, processes, API key and webhook secret. It shows
    every problem that `status` reports, too. A hint is about something that may be intended: it does not change the
    exit status.

    Exit status 1 when anything is wrong.
    """
    from service.diagnosis import Finding, check_secrets, diagnose

    settings = load_settings()
    if settings.database_url is None and settings.redis_url is None:
        # A key or a secret would not help here: `up` needs neither.
        seen = f"{NO_SYSTEM}, and DATABASE_URL and REDIS_URL are missing"
        findings = [Finding("system", ok=False, seen=seen, advice=NO_SYSTEM_ADVICE), *check_secrets(settings)]
    else:
        findings = list(diagnose(settings, lambda: status_reader(settings).read(figures=False)))
    if system := running_system():
        findings = [_fit_to_up(finding, system.folder) for finding in findings]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            say_in_colour(f"{finding.mark:<4}", MARK_COLOURS[finding.mark])
            say(f" {finding.check:<26} {finding.seen}")
            if finding.advice:
                say(f"{'':<4} {'':<26} → {finding.advice}")
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(1)


def _fit_to_up(finding: Finding, folder: Path) -> Finding:
    """A finding about a system that `up` runs: it has started the servers, and reads settings only when it starts."""
    log = {"postgres": "postgres/log", "redis": "valkey/log"}.get(finding.check)
    if log and not finding.ok:
        return finding._replace(advice=f"end `up` and run it again; {folder / log} says why it ended")
    if finding.advice.startswith("set ") and "run `up` again" not in finding.advice:
        setting, then, rest = finding.advice.partition(", then ")
        return finding._replace(advice=f"{setting}, and run `up` again{then}{rest}")
    return finding
