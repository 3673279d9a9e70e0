"""The page *Audit*: each act of a person or an API client, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.storage import audit as storage
from service.web.console import arguments

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

PAGE_SIZE = 50
KINDS = (storage.CONSOLE, storage.API, storage.COMMAND_LINE)
OUTCOMES = (storage.BEGUN, storage.DONE, storage.REFUSED, storage.FAILED, storage.UNKNOWN)


def register(pages: Blueprint, console: Console) -> None:
    """Add the page."""

    def audit() -> str:
        filters = {
            "actor": arguments.text("actor"),
            "actor_kind": arguments.choice("actor_kind", KINDS),
            "action": arguments.text("action"),
            "target": arguments.text("target"),
            "outcome": arguments.choice("outcome", OUTCOMES),
        }
        with console.reading() as connection:
            found = storage.list_rows(connection, filters, PAGE_SIZE + 1, arguments.number("before"))
        return console.render(
            "audit.html",
            acts=found[:PAGE_SIZE],
            older=found[PAGE_SIZE - 1]["id"] if len(found) > PAGE_SIZE else None,
            filters=filters,
            kinds=KINDS,
            outcomes=OUTCOMES,
        )

    pages.get("/audit")(audit)
