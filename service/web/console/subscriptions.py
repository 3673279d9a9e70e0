"""The pages *Subscriptions*, and one subscription with its newest requests."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import NotFound

from service.storage import subscriptions as storage

if TYPE_CHECKING:
    from flask import Blueprint
    from sqlalchemy import Connection

    from service.web.console.console import Console

# Changes that wait, on the page of one subscription.
MAX_WAITING = 50


def register(pages: Blueprint, console: Console) -> None:
    """Add the pages."""

    def subscriptions() -> str:
        with console.reading() as connection:
            return console.render("subscriptions.html", subscriptions=storage.list_rows(connection))

    def subscription(name: str) -> str:
        with console.reading() as connection:
            row = find(connection, name)
            requests = storage.list_recent_requests(connection, row["id"])
            return console.render(
                "subscription.html",
                subscription=row,
                requests=[{**request, "at": datetime.fromisoformat(request["at"])} for request in requests],
                deliveries=storage.list_deliveries(connection, row["id"], MAX_WAITING),
                most=MAX_WAITING,
            )

    pages.get("/subscriptions")(subscriptions)
    pages.get("/subscriptions/<name>")(subscription)


def find(connection: Connection, name: str) -> dict[str, Any]:
    """A subscription by its name.

    Raises:
        NotFound: none has it.
    """
    row = storage.one(connection, name) if name.isascii() and name.isprintable() else None
    if row is None:
        raise NotFound(f"There is no subscription {name!r}.")
    return row
