"""`headshot-mirror models`."""

from __future__ import annotations

from typing import Any

import click

from service.cli.opening import open_engine, reading
from service.cli.output import json_option, print_json, print_rows, shown, told_by
from service.errors import MirrorError

HISTORY_COLUMNS = ("id", "recorded_at", "observed_at", "by", "changed")


@click.group(epilog="Example: headshot-mirror models show 507f1f77bcf86cd799439011")
def models() -> None:
    """Look at models, and erase the personal data of deleted ones."""


@models.command(epilog="Example: headshot-mirror models show 507f1f77bcf86cd799439011 --explain")
@click.argument("model_id")
@click.option("--explain", is_flag=True, help="Say which observation set each field, and when.")
@json_option
def show(model_id: str, *, explain: bool, as_json: bool) -> None:
    """One model as the mirror holds it, and its history."""
    from service.storage import changes
    from service.storage import models as storage

    with reading() as connection:
        row = storage.read(connection, [model_id]).get(model_id)
        history = changes.of_model(connection, model_id)
    if row is None:
        raise MirrorError(f"the mirror has never seen a model {model_id}")
    origins = _origins(history)
    if as_json:
        document = {**row, "history": history}
        print_json({**document, "explain": origins} if explain else document)
        return
    for name, value in row.items():
        origin = origins.get(name) if explain else None
        click.echo(f"{name:<18} {shown(value):<40} {_words(origin) if origin else ''}".rstrip())
    click.echo()
    rows = [{**change, "by": told_by(change), "changed": _changed(change)} for change in history]
    print_rows(rows, HISTORY_COLUMNS, as_json=False)


@models.command(epilog="Example: headshot-mirror models erase 507f1f77bcf86cd799439011")
@click.argument("model_id")
def erase(model_id: str) -> None:
    """Erase the personal data of a deleted model now: its name, address, gender, events and old values, for ever."""
    from service.mirror.tidy import erase_now

    erased = erase_now(open_engine(), model_id)
    click.echo(f"{model_id} {'is erased' if erased else 'was erased before'}")


def _origins(history: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each field the change that gave it its value; a field that never had one has none."""
    origins: dict[str, dict[str, Any]] = {}
    for change in history:
        for name in change["changed"]:
            told = {key: change[key] for key in ("source", "event_id", "pull_id", "observed_at", "recorded_at")}
            origins.setdefault(name, told)
    return origins


def _words(origin: dict[str, Any]) -> str:
    return f"by {told_by(origin)}, as of {shown(origin['observed_at'])}"


def _changed(change: dict[str, Any]) -> str:
    return ", ".join(f"{name} {shown(old)} → {shown(new)}" for name, (old, new) in change["changed"].items())
