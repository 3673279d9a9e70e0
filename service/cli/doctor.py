"""`headshot-mirror doctor`: what is wrong with this deployment, and what to do about each thing."""

from __future__ import annotations

import click

from service.cli.opening import NO_SYSTEM, NO_SYSTEM_ADVICE, load_settings, running_system, status_reader
from service.cli.output import json_option, print_json, say, say_in_colour

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
        system = running_system()
        local = system.local_up() if system else None
        findings = list(diagnose(settings, lambda: status_reader(settings).read(figures=False), local))
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
