"""The page *Alerts*: what is open, what was, and the receivers with their last result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound

from service.alerts.kinds import KINDS
from service.alerts.problems import fit_to_up, this_up
from service.alerts.texts import alert_texts
from service.storage import alerts as storage
from service.web.console import arguments

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

PAGE_SIZE = 50


def register(pages: Blueprint, console: Console) -> None:
    """Add the page."""

    def hint(kind: str) -> str:
        return fit_to_up(kind, alert_texts(kind).hint, this_up()) if kind in KINDS else ""

    def alerts() -> str:
        kind = arguments.text("kind")
        before = arguments.number("before")
        with console.reading() as connection:
            found = storage.page_resolved(connection, kind, before, PAGE_SIZE + 1)
            open_alerts = storage.page_open(connection, kind) if before is None else []
            receivers = storage.list_receivers(connection)
        return console.render(
            "alerts.html",
            open_alerts=open_alerts,
            history=found[:PAGE_SIZE],
            older=found[PAGE_SIZE - 1]["id"] if len(found) > PAGE_SIZE else None,
            receivers=receivers,
            may_test=console.settings.alert_urls is not None,
            kinds=sorted(KINDS),
            kind=kind,
            hint=hint,
        )

    def alert(alert_id: int) -> str:
        with console.reading() as connection:
            row = storage.one(connection, alert_id) if alert_id <= arguments.MAX_NUMBER else None
        if row is None:
            raise NotFound(f"There is no alert {alert_id}.")
        return console.render("alert.html", alert=row, hint=hint(row["kind"]))

    pages.get("/alerts")(alerts)
    # Notifications link to it.
    pages.get("/alerts/<int:alert_id>")(alert)
