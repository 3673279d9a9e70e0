"""The page *Changes*: every change of every model, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.model_fields import STATUS_NAMES
from service.storage import history
from service.web.console import arguments
from service.web.console.tail import change_key

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

PAGE_SIZE = 50
SOURCES = (("webhook", "webhook"), ("pull", "pull"), ("refetch", "GET"), ("api", "API call"), ("erase", "erasure"))


def register(pages: Blueprint, console: Console) -> None:
    """Add the page."""

    def changes() -> str:
        # The vendor may add a status.
        model, status = arguments.text("model"), arguments.text("status")
        source = arguments.choice("source", tuple(name for name, _label in SOURCES))
        with console.reading() as connection:
            found = history.page(
                connection, arguments.number("before"), PAGE_SIZE + 1, model_id=model, source=source, to_status=status
            )
        return console.render(
            "changes.html",
            changes=[{**row, "key": change_key(row["id"], row["event_id"])} for row in found[:PAGE_SIZE]],
            older=found[PAGE_SIZE - 1]["id"] if len(found) > PAGE_SIZE else None,
            model=model,
            source=source,
            status=status,
            sources=SOURCES,
            statuses=STATUS_NAMES if status is None or status in STATUS_NAMES else (*STATUS_NAMES, status),
        )

    pages.get("/changes")(changes)
