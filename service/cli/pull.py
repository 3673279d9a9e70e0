"""`headshot-mirror pull`: a pull in this process, to its end."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from service.cli.opening import current_actor, open_runtime
from service.cli.output import json_option, print_json, say
from service.cli.progress import progress_bar, stop_on_signals
from service.errors import LeaseLost, MirrorError

if TYPE_CHECKING:
    from service.runtime import Runtime

SLICE_SECONDS = 10.0
POLL_SECONDS = 0.5
# Refetch requests that take longer are left to the workers.
SETTLE_SECONDS = 120.0
# This many ids of models are listed.
MAX_NAMED_IDS = 5
SET_ASIDE = "select * from headshotpro.set_aside where resolved_at is null"


@click.command(epilog="Example: headshot-mirror pull --hot")
@click.option("--full", "kind", flag_value="full", default=True, help="Read every model (the default).")
@click.option("--hot", "kind", flag_value="hot", help="Read the statuses that still change.")
@json_option
def pull(kind: str, *, as_json: bool) -> None:
    """Pull now, in this process.

    It waits for a running pull of the same kind first. It returns when all that it left open is settled: models that
    were not shown, and profiles that are still missing. Exit status 1 when the pull did not complete.
    """
    from service.mirror.pull_slice import START_ACTION
    from service.storage import audit

    runtime = open_runtime()
    stop_on_signals(runtime, "stopped; the workers go on with the pull from its last page")
    with (
        audit.recorded(runtime.engine, audit.Act(current_actor(), START_ACTION, kind)) as act,
        progress_bar() as progress,
    ):
        row = _run(runtime, kind, partial(progress, "models"))
        act.detail |= {"pull": row["id"], "status": row["status"], "requests": row["requests"]}
        if row["status"] == "complete":
            _run_due_refetches(runtime)
        else:
            act.outcome = audit.FAILED
    _report(row, as_json=as_json)


def _run(runtime: Runtime, kind: str, progress: Any) -> dict[str, Any]:
    """Go on with a pull that a dead process left behind, wait for one that is running, then do a new one to its end.

    Returns:
        The row of the new one.
    """
    from service.mirror.pull import advance
    from service.storage import pulls
    from service.storage.database import transaction

    pull_context = runtime.pull_context(progress)
    with transaction(runtime.engine) as connection:
        newest_before = pulls.newest_id(connection)
    ours: int | None = None
    # A person does not wait for a pause that began before; a later one has its reason.
    wake = True
    while True:
        try:
            worked = advance(pull_context, kind, 0, SLICE_SECONDS, wake=wake)
        except LeaseLost:
            worked = None
        wake = False
        if worked and worked > newest_before:
            ours = worked
        with transaction(runtime.engine) as connection:
            row = pulls.one(connection, ours) if ours else None
        if row and row["status"] != "running":
            return row
        if worked is None:
            runtime.pause(POLL_SECONDS)


def _run_due_refetches(runtime: Runtime) -> None:
    """Read the models that the pull requested a GET of, as far as they come due soon."""
    from service.mirror.refetch import refetch
    from service.storage import refetches
    from service.storage.database import transaction

    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        with transaction(runtime.engine) as connection:
            if refetches.next_due(connection) is None:
                return
        refetch(runtime.engine, runtime.client, SLICE_SECONDS)
        runtime.pause(POLL_SECONDS)


def describe_set_aside(number: int) -> str:
    """A number of records that could not be used, for people."""
    return "1 record or field" if number == 1 else f"{number} records or fields"


def describe_postponed(ids: list[str]) -> str:
    """A sentence about suspects that a pull left to the next one."""
    names = ", ".join(ids[:MAX_NAMED_IDS]) + (
        f" and {len(ids) - MAX_NAMED_IDS} more" if len(ids) > MAX_NAMED_IDS else ""
    )
    subject = (
        "1 model is not in the list, and its" if len(ids) == 1 else f"{len(ids)} models are not in the list, and their"
    )
    return (
        f"{subject} GET failed three times, or Postgres refused the row: {names}. The next full pull reads them again."
    )


def describe_decision(row: dict[str, Any]) -> str:
    """How a person decides about a held pull."""
    commands = f"`headshot-mirror pulls release {row['id']}`", f"`headshot-mirror pulls reject {row['id']}`"
    if row["pages"] == 0:
        return f"put the right HEADSHOTPRO_API_KEY back and run {commands[1]}; or {commands[0]}, which explains itself"
    return f"{commands[0]} sends a GET for each model that it did not show; {commands[1]} leaves them alone for a day"


def _report(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        state = "has failed" if row["status"] == "failed" else f"is {row['status']}"
        say(
            f"Pull {row['id']} ({row['kind']}) {state}: {row['models_seen']} models seen in "
            f"{row['requests']} requests; {row['inserted']} new, {row['changed']} changed, "
            f"{row['tombstoned']} deleted."
        )
        if row["set_aside"]:
            say(f"{describe_set_aside(row['set_aside'])} could not be used: {SET_ASIDE}.")
        if row["postponed"]:
            say(describe_postponed(row["postponed"]))
    if row["status"] != "complete":
        decision = f"; {describe_decision(row)}" if row["status"] == "held" else ""
        raise MirrorError(f"{row['error'] or 'the pull did not complete'}{decision}")
