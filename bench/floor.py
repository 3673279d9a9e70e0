"""The floor of event to row: a psycopg script that does the same visible work, 500 raw bodies a transaction.

It decodes each body, upserts the newest of each model, and writes a row of `model_changes` and of `webhook_events` for
each event. It does not merge, and knows no clocks, late events or refetches. `apply_event` is the same as an RQ job for
one event.
"""

import functools
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg

BATCH = 500
JOB = "bench.floor.apply_event"
# As the worker does: a row of `models` that another program writes is noted by a trigger.
WRITER = "-c headshotpro.writer=headshot-mirror"
TIMES = ("createdAt", "finishedAt", "deletedAt", "inviteExpiresAt")
TYPES = {"uid": "text", "title": "text", "trigger": "text", "status": "text", "organization": "text"}
TYPES |= {"isDevelopment": "boolean", **dict.fromkeys(TIMES, "timestamptz")}
COLUMNS = ("uid", "title", "trigger", "status", "organization_id", "is_development")
COLUMNS += ("created_at", "finished_at", "deleted_at", "invite_expires_at", "observed_at")
EVENTS = b"""
    insert into headshotpro.webhook_events (id, event, model_id, status, payload, created_at, received_at, processed_at)
    select id, event, model_id, 'applied', payload, at, now(), now() from json_to_recordset(%s::json)
        as given (id text, event text, model_id text, payload jsonb, at timestamptz)
    on conflict (id) do nothing
"""
MODELS = f"""
    insert into headshotpro.models (id, {", ".join(COLUMNS)}, updated_at)
    select _id, {", ".join(f'"{name}"' for name in TYPES)}, at, now() from json_to_recordset(%s::json)
        as given (_id text, {", ".join(f'"{name}" {kind}' for name, kind in TYPES.items())}, at timestamptz)
    on conflict (id) do update
    set {", ".join(f"{name} = excluded.{name}" for name in COLUMNS)}, updated_at = excluded.updated_at
    where excluded.observed_at > models.observed_at
""".encode()
CHANGES = b"""
    insert into headshotpro.model_changes (model_id, to_status, changed, source, event_id, observed_at, recorded_at)
    select model_id, status, changed, 'webhook', id, at, now() from json_to_recordset(%s::json)
        as given (model_id text, status text, changed jsonb, id text, at timestamptz)
"""


def apply(connection: psycopg.Connection[Any], bodies: Sequence[bytes]) -> None:
    """Apply bodies in one transaction."""
    events: dict[str, dict[str, Any]] = {}
    models: dict[str, dict[str, Any]] = {}
    changes = []
    for body in bodies:
        event = msgspec.json.decode(body)
        model, at, event_id = event["object"], event["createdAt"], event["id"]
        if event_id in events:
            continue
        model_id, status = model["_id"], model["status"]
        row = {"id": event_id, "event": event["event"], "model_id": model_id, "at": at}
        events[event_id] = {**row, "payload": msgspec.Raw(body)}
        if model_id not in models or at > models[model_id]["at"]:
            models[model_id] = {**model, "at": at}
        changes.append({**row, "status": status, "changed": {"status": [None, status]}})
    with connection.transaction():
        for statement, found in ((EVENTS, events.values()), (MODELS, models.values()), (CHANGES, changes)):
            connection.execute(statement, [msgspec.json.encode(list(found)).decode()])


@functools.cache
def _connection(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, options=WRITER)


def apply_event(url: str, body: str) -> None:
    """The RQ job, on a connection that the process keeps."""
    apply(_connection(url), [body.encode()])


def main(url: str, path: str) -> None:
    """Apply the bodies of a file, one a line, and print the rate."""
    bodies = Path(path).read_bytes().splitlines()
    with psycopg.connect(url, options=WRITER) as connection:
        began = time.perf_counter()
        for begin in range(0, len(bodies), BATCH):
            apply(connection, bodies[begin : begin + BATCH])
        rate = len(bodies) / (time.perf_counter() - began)
    print(json.dumps({"rate": rate, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
