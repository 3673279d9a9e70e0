"""`headshot-mirror verify`: every difference between upstream and mirror."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from service.cli.opening import open_runtime
from service.cli.output import describe_source, format_value, json_option, print_json, say
from service.cli.progress import progress_bar, stop_on_signals
from service.cli.pull import SET_ASIDE, describe_set_aside

if TYPE_CHECKING:
    from service.mirror.verify import Difference, Verifier
    from service.runtime import Runtime

HISTORY = 5


@click.command(epilog="Example: headshot-mirror verify --details")
@click.option("--details", is_flag=True, help="Compare photo counts and favourites too: one request for each model.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Show this many differences."
)
@json_option
def verify(limit: int, *, details: bool, as_json: bool) -> None:
    """Compare the mirror with the whole upstream.

    It prints each difference with the history of the row behind it, and changes nothing. Each difference is checked
    again, so that events on their way are not reported: the first --limit models by two GETs each, the others in the
    list. All are counted. Records and fields that cannot be read are counted and not compared. Exit status 1 on a
    difference, or a model whose GET failed.
    """
    from service.mirror.verify import Verifier

    runtime = open_runtime()
    stop_on_signals(runtime)
    if not (as_json or sys.stderr.isatty()):
        # Where no bar is shown, and it may take minutes.
        say("Reading the upstream's list …", err=True)
    with progress_bar() as progress:
        verifier = Verifier(runtime.engine, runtime.client, runtime.pause, progress, details=details, limit=limit)
        differences = verifier.differences()
    if as_json:
        print_json([{**one._asdict(), "history": _history(runtime, one)} for one in differences[:limit]])
    else:
        _print(runtime, differences[:limit])
    _print_count(verifier, differences, limit, as_json=as_json)
    _print_uncompared(verifier, as_json=as_json)
    if differences or verifier.unanswered:
        raise click.exceptions.Exit(1)


def _print_uncompared(verifier: Verifier, *, as_json: bool) -> None:
    """Say what could not be compared; on stderr where stdout is one JSON document."""
    if verifier.set_aside:
        text = f"{describe_set_aside(len(verifier.set_aside))} could not be read, and so not compared: {SET_ASIDE}."
        say(text, err=as_json)
    for model_id, reason in sorted(verifier.unanswered.items()):
        say(f"{model_id} could not be compared, because its GET failed: {reason}", err=as_json)


def _history(runtime: Runtime, difference: Difference) -> list[dict[str, Any]]:
    """The newest changes of the field that differs."""
    from service.storage import history
    from service.storage.database import transaction

    with transaction(runtime.engine) as connection:
        rows = history.page(connection, model_id=difference.model_id)
    return [row for row in rows if difference.field in row["changed"]][:HISTORY]


def _print(runtime: Runtime, differences: list[Difference]) -> None:
    for difference in differences:
        say(
            f"{difference.model_id}  {difference.field}: mirror {format_value(difference.mirror)}, "
            f"upstream {format_value(difference.upstream)}"
        )
        for row in _history(runtime, difference):
            old, new = row["changed"][difference.field]
            say(
                f"    {format_value(row['recorded_at'])}  {format_value(old)} → {format_value(new)}  "
                f"by {describe_source(row)}, as of {format_value(row['observed_at'])}"
            )


def _print_count(verifier: Verifier, differences: list[Difference], limit: int, *, as_json: bool) -> None:
    """Say how many differences there are; on stderr where stdout is one JSON document."""
    if not differences:
        if not as_json:
            say(f"No difference; models compared: {verifier.compared - len(verifier.unanswered)}.")
        return
    models = len({difference.model_id for difference in differences})
    counted = f"{len(differences)} difference{'' if len(differences) == 1 else 's'}"
    say(f"{counted} in {models} model{'' if models == 1 else 's'}.", err=as_json)
    if len(differences) > limit:
        say(f"{limit} {'is' if limit == 1 else 'are'} shown; `--limit {len(differences)}` shows all.", err=as_json)
    if verifier.listed_only:
        say(
            f"{verifier.listed_only} of these models were compared with the list twice, and with no GET of their own.",
            err=as_json,
        )
