"""A program that puts made-up fields and a made-up status into the one list, before anything else is imported.

Then it sends the fields through webhook, list and GET, and prints as JSON what the mirror has of them after each step.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from service import model_fields
from service.model_fields import Field, Kind, Personal, Status

# One of each group, each of another kind.
FIELDS = (
    Field("mood", "mood", model_fields.CORE, Kind.TEXT, "Made up", personal=Personal.TRAIT),
    Field("invited_on", "invitedOn", model_fields.INVITATION, Kind.TIME, "Made up", webhook_name="invitedAt"),
    Field("is_manager", "isManager", model_fields.PROFILE, Kind.FLAG, "Made up"),
    Field("smile_count", "smileCount", model_fields.DETAIL, Kind.COUNT, "Made up"),
)
COLUMNS = tuple(field.column for field in FIELDS)
STATUS = Status("polishing", 5, hot=True, moving=True)

ADD_COLUMNS = """
    alter table headshotpro.models add column mood text, add column invited_on timestamptz,
        add column is_manager boolean, add column smile_count integer
"""


def next_second() -> None:
    """Wait for the clock's next second: `Date` is cut to it, so of two responses within one neither is surely newer."""
    time.sleep(1.0 - time.time() % 1.0)


class Steps:
    """A mirror of an upstream that sends the fields, and what is printed."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        from service.storage import merged
        from service.storage.migrations import merge_functions
        from tests.support.api import Api
        from tests.support.list_vendor import ListVendor, model
        from tests.support.mirror import Mirror
        from tests.support.sandboxes import Sandbox

        # A webhook brings the second one, before any pull.
        self.first, self.second = (model(number, mood="calm", isManager=False, smileCount=3) for number in (1, 2))
        self.vendor = ListVendor([self.first])
        self.vendor.start()
        nothing: Any = None
        running = Sandbox(self.vendor.url, "key", "f" * 64, self.vendor.url, nothing)
        self.mirror = Mirror(running, database_url, redis_url)
        self.mirror.sql(ADD_COLUMNS)
        self.mirror.sql(f"drop function headshotpro.lock_models_{merged.FUNCTIONS}")
        self.mirror.sql(f"drop function headshotpro.write_merged_{merged.FUNCTIONS}")
        for statement in merge_functions.statements(merged.FUNCTIONS, merged.COLUMNS):
            self.mirror.sql(statement)
        self.api = Api.of(self.mirror)
        self.printed: dict[str, Any] = {}

    def see(self, step: str, record: dict[str, Any]) -> None:
        """Note what the mirror has of a model after a step, and of which fields its newest change speaks."""
        row, change = self.mirror.model(record["id"]), self.mirror.changes(record["id"])[-1]
        (listed,) = (one for one in self.api.get("?limit=200")["models"] if one["id"] == record["id"])
        single = self.api.get(f"/{record['id']}")["model"]
        self.printed[step] = {
            "row": {name: row[name] for name in COLUMNS},
            "list": {field.json_name: listed[field.json_name] for field in FIELDS if field.json_name in listed},
            "single": {field.json_name: single[field.json_name] for field in FIELDS if field.json_name in single},
            "change": {name: pair for name, pair in change["changed"].items() if name in COLUMNS},
            "source": change["source"],
        }

    def deliver(self, record: dict[str, Any], event: str, **fields: Any) -> None:
        """A webhook through the endpoint and the drain."""
        from service.mirror.drain import drain_batch
        from tests.support.system import WEBHOOK_PATH, event_body, signed

        body = event_body(record["id"], event, **fields)
        response = self.api.app.post(WEBHOOK_PATH, data=body, headers=signed(body, secret="f" * 64))
        assert response.status_code == 202, response.text
        inbox = self.mirror.runtime.inbox
        drain_batch(self.mirror.runtime.engine, inbox, inbox.read(10, 0), self.mirror.runtime.tolerance)

    def take(self) -> None:
        """Every source in turn, each response in a second of its own."""
        from service.mirror.erasure import erase_now
        from tests.support.acting import TESTER

        assert self.mirror.pull()["status"] == "complete"
        self.see("first pull", self.first)
        self.first |= {"mood": "glad", "isManager": True}
        next_second()
        assert self.mirror.pull()["status"] == "complete"
        self.see("second pull", self.first)
        self.first |= {"mood": "jolly", "smileCount": 4}
        next_second()
        self.api.get(f"/{self.first['id']}?fresh=true")
        self.see("single GET", self.first)
        # A later GET of it shows the same.
        self.first |= {"mood": "merry"}
        self.deliver(self.first, "model.status.updated", mood="merry", invitedAt="2024-01-01T12:00:00+02:00")
        self.see("webhook", self.first)
        long_ago = datetime(2024, 1, 2, tzinfo=UTC)
        self.deliver(self.second, "model.created", mood="aloof", at=long_ago)
        self.see("first webhook", self.second)
        self.vendor.records.append(self.second)
        self.mirror.make_refetches_due()
        self.mirror.refetch()
        self.see("refetch", self.second)
        self.deliver(self.first, "model.deleted", status="deleted")
        erase_now(self.mirror.runtime.engine, self.first["id"], TESTER)
        self.printed["erased"] = {
            "row": self.mirror.model(self.first["id"])["mood"],
            "moods": [change["changed"].get("mood") for change in self.mirror.changes(self.first["id"])],
        }

    def take_status(self) -> None:
        """The made-up status in hot pulls, alerts and metrics."""
        from service.alerts.rules import MOVING
        from service.mirror.pull_slice import HOT
        from tests.support.api import KEY

        assert self.mirror.pull(HOT)["status"] == "complete"
        metrics = self.api.app.get("/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
        self.printed["status"] = {
            "asked": any(f"status={STATUS.name}" in path for path in self.vendor.asked),
            "moving": STATUS.name in MOVING,
            "metric": f'headshotpro_models{{status="{STATUS.name}"}} 0.0' in metrics,
        }

    def close(self) -> None:
        self.mirror.close()
        self.vendor.stop()


if __name__ == "__main__":
    model_fields.FIELDS += FIELDS  # type: ignore[assignment]
    model_fields.STATUSES += (STATUS,)  # type: ignore[assignment]
    steps = Steps(*sys.argv[1:])
    try:
        steps.take()
        steps.take_status()
    finally:
        steps.close()
    sys.stdout.write("\n" + json.dumps(steps.printed, default=str))
