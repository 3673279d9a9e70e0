"""The page *Models*: one box and a few filters, and the whole filter as CSV."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flask import Response, request

from service.model_fields import EXPORT_COLUMNS, STATUS_NAMES
from service.plain_text import csv_cell
from service.storage import console_models
from service.storage.console_models import ModelPlace, ModelSearch
from service.web.console import arguments, copies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Blueprint

    from service.web.console.console import Console

PAGE_SIZE = 50
# Rows that are read by one statement of a CSV file; few, so that deliveries need not wait while they are written.
CSV_ROWS = 500
# How long a file waits for its turn before it breaks off.
CSV_WAIT_SECONDS = 60.0
# A value of the URL, its label, and the least and the greatest age in days.
AGES: dict[str, tuple[str, int | None, int | None]] = {
    "1d": ("24 hours or less", None, 1),
    "7d": ("7 days or less", None, 7),
    "30d": ("30 days or less", None, 30),
    "old": ("more than 30 days", 30, None),
}
DEVELOPMENT = {"yes": True, "no": False}


def register(pages: Blueprint, console: Console) -> None:
    """Add the page and its CSV."""
    web = (console.settings.public_url or "http://localhost:8000").rstrip("/")

    def models() -> str:
        search, before = search_of_url(only_id=not console.names.shown), arguments.place()
        with console.reading() as connection:
            found = console_models.page(connection, search, before and ModelPlace(*before), PAGE_SIZE + 1)
        last = found[PAGE_SIZE - 1] if len(found) > PAGE_SIZE else None
        return console.render(
            "models.html",
            models=found[:PAGE_SIZE],
            older=last and arguments.place_of(last["created_at"], last["id"]),
            search=search,
            age=request.args.get("age"),
            statuses=sorted({*STATUS_NAMES, search.status} - {None}),
            ages=[(value, label) for value, (label, _, _) in AGES.items()],
            development=request.args.get("development"),
            copies=copies.of_search(search, web),
        )

    def models_csv() -> Response:
        search = search_of_url(only_id=not console.names.shown)
        headers = {"Content-Disposition": 'attachment; filename="models.csv"', "X-Accel-Buffering": "no"}
        # Without the request's context, which has a slot: a slow client needs one only while rows are read for it.
        return Response(_csv(console, search), mimetype="text/csv", headers=headers)

    pages.get("/models")(models)
    pages.get("/models.csv")(models_csv)


def search_of_url(*, only_id: bool) -> ModelSearch:
    """The search that the URL asks for.

    Raises:
        BadRequest: a parameter cannot be read.
    """
    age = arguments.choice("age", tuple(AGES))
    development = arguments.choice("development", tuple(DEVELOPMENT))
    least, greatest = AGES[age][1:] if age else (None, None)
    # A whole minute, so that a page and the next one mean the same time.
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    return ModelSearch(
        arguments.text("q"),
        only_id,
        arguments.text("status"),
        arguments.text("team"),
        DEVELOPMENT[development] if development else None,
        now - timedelta(days=greatest) if greatest else None,
        now - timedelta(days=least) if least else None,
    )


def _csv(console: Console, search: ModelSearch) -> Iterator[str]:
    """The lines of the file; each statement is short, so that no transaction lasts as long as a slow download."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(EXPORT_COLUMNS)
    place: ModelPlace | None = None
    while True:
        with console.slots.turn(CSV_WAIT_SECONDS), console.reading() as connection:
            rows = console_models.page(connection, search, place, CSV_ROWS)
        for row in rows:
            writer.writerow([csv_cell(console.names.field(name, row[name]), safe=True) for name in EXPORT_COLUMNS])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        if len(rows) < CSV_ROWS:
            return
        place = ModelPlace(rows[-1]["created_at"], rows[-1]["id"])
