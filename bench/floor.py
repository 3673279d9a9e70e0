"""The floor under event-to-row: a psycopg script that does the same visible work, 500 raw bodies a transaction.

What it does: decodes each body; upserts the newest of each model into `models`; writes a row of `model_changes` for
each event; writes each event with its payload into `webhook_events`, once. Three set-based statements, each with one
JSON document as its parameter: of arrays, `executemany`, COPY and that, the quickest.

It does not read the known state (so a change has no old value, and an event that changes nothing makes one, too), keep
the times of groups apart, find out what is stale or to be asked, count deliveries, give ids out in the order of
commits, notify, survive a body that is refused; nor does it read Redis, acknowledge or log.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg

from bench.alternating import measured
from bench.deliveries import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 500
TOLD = {
    "uid": "text", "title": "text", "trigger": "text", "status": "text", "isDevelopment": "boolean",
    "createdAt": "timestamptz", "finishedAt": "timestamptz", "deletedAt": "timestamptz",
    "inviteExpiresAt": "timestamptz", "organization": "text",
}  # fmt: skip
COLUMNS = (
    "uid", "title", "trigger", "status", "is_development", "created_at", "finished_at", "deleted_at",
    "invite_expires_at", "organization_id", "observed_at",
)  # fmt: skip
EVENTS = b"""
    insert into headshotpro.webhook_events (id, event, model_id, status, payload, created_at, received_at, processed_at)
    select id, event, model_id, 'applied', payload, at, now(), now() from json_to_recordset(%s::json)
        as told (id text, event text, model_id text, payload jsonb, at timestamptz)
    on conflict (id) do nothing
"""
MODELS = f"""
    insert into headshotpro.models (id, {", ".join(COLUMNS)}, updated_at)
    select _id, {", ".join(f'"{name}"' for name in TOLD)}, at, now() from json_to_recordset(%s::json)
        as told (_id text, {", ".join(f'"{name}" {kind}' for name, kind in TOLD.items())}, at timestamptz)
    on conflict (id) do update
    set {", ".join(f"{name} = excluded.{name}" for name in COLUMNS)}, updated_at = excluded.updated_at
    where excluded.observed_at > models.observed_at
""".encode()
CHANGES = b"""
    insert into headshotpro.model_changes (model_id, to_status, changed, source, event_id, observed_at, recorded_at)
    select model_id, status, changed, 'webhook', id, at, now() from json_to_recordset(%s::json)
        as told (model_id text, status text, changed jsonb, id text, at timestamptz)
"""


def apply(connection: psycopg.Connection[Any], bodies: Sequence[bytes]) -> None:
    """One transaction."""
    told, models, changes = _rows(bodies)
    with connection.transaction():
        connection.execute(EVENTS, [_json(told)])
        connection.execute(MODELS, [_json(models)])
        connection.execute(CHANGES, [_json(changes)])


def _rows(bodies: Sequence[bytes]) -> tuple[list[Any], list[Any], list[Any]]:
    """The rows of three tables: events once each, the newest of each model, a change for each event."""
    told: dict[str, dict[str, Any]] = {}
    models: dict[str, dict[str, Any]] = {}
    changes: list[dict[str, Any]] = []
    for body in bodies:
        event = msgspec.json.decode(body)
        model, at, event_id = event["object"], event["createdAt"], event["id"]
        if event_id in told:
            continue
        model_id, status = model["_id"], model["status"]
        row = {"id": event_id, "event": event["event"], "model_id": model_id, "at": at}
        told[event_id] = {**row, "payload": msgspec.Raw(body)}
        if model_id not in models or at > models[model_id]["at"]:
            models[model_id] = {**model, "at": at}
        changes.append({**row, "status": status, "changed": {"status": [None, status]}})
    return list(told.values()), list(models.values()), changes


def _json(rows: list[Any]) -> str:
    return msgspec.json.encode(rows).decode()


def main(url: str, path: str) -> None:
    """Apply the bodies of a file, one a line, when told to go."""
    bodies = Path(path).read_bytes().splitlines()
    with psycopg.connect(url) as connection, measured() as result:
        began = time.perf_counter()
        for batch in batches(bodies, BATCH):
            apply(connection, batch)
        result["rate"] = len(bodies) / (time.perf_counter() - began)
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
