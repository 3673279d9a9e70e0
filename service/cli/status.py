"""`headshot-mirror status`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import click

from service.cli.opening import SERVERS, load_settings, status_reader
from service.cli.output import format_value, json_option, print_json, say, say_in_colour
from service.signal_handlers import stop_on_signals

if TYPE_CHECKING:
    from service.status import MirrorState

WATCH_SECONDS = 2.0
EVENT_COLUMNS = ("id", "event", "status", "received_at")
PULL_COLUMNS = ("id", "kind", "status", "started_at", "error")


@click.command(epilog="Examples: headshot-mirror status --watch; headshot-mirror status --json | jq .pull_age_seconds")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@json_option
def status(*, watch: bool, as_json: bool) -> None:
    """Show whether the mirror is well, and its figures.

    The first line is the verdict: OK, starting, or every problem in a few words. The figures follow: how fresh and
    how complete the mirror is, and what waits. Those of a server that is unavailable are null. Exit status 1 while a
    problem is open.
    """
    reader = status_reader(load_settings(SERVERS))
    stop = threading.Event()
    if watch:
        # A signal is how a watch ends, with the status of what it showed last.
        stop_on_signals(stop)
    state = reader.read()
    _show(state, as_json=as_json)
    while watch and not stop.wait(WATCH_SECONDS):
        state = reader.read()
        if not as_json:
            # Nothing where the output is no terminal.
            click.clear()
        _show(state, as_json=as_json)
    if state.problems:
        raise click.exceptions.Exit(1)


def _show(state: MirrorState, *, as_json: bool) -> None:
    if as_json:
        print_json(document(state))
        return
    say_in_colour(state.verdict, {"OK": "green", "starting": "yellow"}.get(state.verdict, "red"))
    say()
    for problem in state.problems:
        say(f"  {problem.code:<22} {problem.message}")
        say(f"  {'':<22} → {problem.action}")
    for name, value in document(state).items():
        if name != "problems":
            say(f"{name:<24} {_format_figure(name, value, state)}")


def document(state: MirrorState) -> dict[str, Any]:
    """Everything that the command reports, by the names of its JSON."""
    figures, newest = state.figures, state.newest
    event, pull = newest and newest.event, newest and newest.pull
    return {
        "problems": [problem._asdict() for problem in state.problems],
        "organization": newest and newest.organization and newest.organization._asdict(),
        "processes": state.processes,
        "events_waiting": state.events_waiting,
        "oldest_waiting_seconds": state.oldest_waiting_seconds,
        "models": figures and figures.models,
        "last_event": event and {name: event[name] for name in EVENT_COLUMNS},
        "last_event_at": figures and figures.last_event_at,
        "last_pull": pull and {name: pull[name] for name in PULL_COLUMNS},
        "last_complete_pull_at": figures and figures.last_complete_pull_at,
        "pull_age_seconds": figures and figures.pull_age_seconds,
        "open_alerts": figures and figures.open_alerts,
        "late_webhooks": figures and figures.late_webhooks,
        "lost_webhooks": figures and figures.lost_webhooks,
        "missed_webhooks": figures and figures.missed_webhooks,
        "open_refetches": figures and figures.open_refetches,
        "kept_suspects": figures and figures.kept_suspects,
        "requests_left": state.redis and state.redis.requests_left,
        "refused_deliveries": state.refused_deliveries,
    }


def _format_figure(name: str, value: Any, state: MirrorState) -> str:
    if name == "processes" and value is not None:
        from service.alerts.problems import count_alive

        return ", ".join(f"{number} {kind}" for kind, number in sorted(count_alive(state.facts).items()))
    if name == "organization" and value is not None and state.newest:
        return str(state.newest.organization)
    if name in {"last_event", "last_pull"} and value is not None:
        return " ".join(format_value(part) for part in value.values() if part is not None)
    if name == "models" and value is not None:
        ranked = sorted(value.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{number} {label}" for label, number in ranked) or "-"
    return format_value(round(value, 1) if isinstance(value, float) else value)
