"""The page *Alerts*: what is open, what was, and the receivers with their last result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import request

from service.alerts.rules import KINDS
from service.alerts.texts import alert_texts
from service.storage import console_alerts

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

PAGE_SIZE = 50


def register(pages: Blueprint, console: Console) -> None:
    """Add the page."""

    def alerts() -> str:
        kind = request.args.get("kind") or None
        before = request.args.get("before", type=int)
        with console.reading() as connection:
            found = console_alerts.page(connection, kind, before, PAGE_SIZE + 1)
            open_alerts = console_alerts.list_open(connection, kind) if before is None else []
            receivers = console_alerts.receivers(connection)
        return console.render(
            "alerts.html",
            open_alerts=open_alerts,
            history=found[:PAGE_SIZE],
            older=found[PAGE_SIZE - 1]["id"] if len(found) > PAGE_SIZE else None,
            receivers=receivers,
            kinds=sorted(KINDS),
            kind=kind,
            hint=lambda name: alert_texts(name).hint if name in KINDS else "",
        )

    pages.get("/alerts")(alerts)
