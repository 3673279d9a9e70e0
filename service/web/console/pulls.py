"""The pages *Pulls*, one pull, and *Set aside*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import request
from werkzeug.exceptions import NotFound

from service.storage import pulls as storage
from service.storage import set_aside as set_aside_storage
from service.storage import suspects
from service.web.console import arguments

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

PAGE_SIZE = 50
KINDS = ("full", "hot")
STATUSES = ("running", "complete", "held", "failed")
STATES = ("open", "resolved")


def register(pages: Blueprint, console: Console) -> None:
    """Add the pages."""

    def pulls() -> str:
        kind, status = arguments.choice("kind", KINDS), arguments.choice("status", STATUSES)
        before = arguments.number("before")
        with console.reading() as connection:
            found = storage.page(connection, kind, status, before, PAGE_SIZE + 1)
            kept = suspects.count_kept(connection)
        return console.render(
            "pulls.html",
            pulls=found[:PAGE_SIZE],
            kept=kept,
            older=found[PAGE_SIZE - 1]["id"] if len(found) > PAGE_SIZE else None,
            kinds=KINDS,
            statuses=STATUSES,
        )

    def pull(pull_id: int) -> str:
        with console.reading() as connection:
            row = storage.one_with_total(connection, pull_id) if pull_id < arguments.MAX_NUMBER else None
            if row is None or row["id"] != pull_id:
                raise NotFound(f"There is no pull {pull_id}.")
            return console.render(
                "pull.html",
                pull=row,
                suspects=storage.suspects(connection, pull_id),
                differences=storage.differences(connection, pull_id),
                changes=storage.changes(connection, pull_id),
                most=storage.MAX_PART,
            )

    pages.get("/pulls")(pulls)
    pages.get("/pulls/<int:pull_id>")(pull)
    _register_set_aside(pages, console)


def _register_set_aside(pages: Blueprint, console: Console) -> None:
    def set_aside() -> str:
        state, model, pull_id = arguments.choice("state", STATES), arguments.text("model"), arguments.number("pull")
        # People come for the open rows: they may do something about those.
        is_open = {"open": True, "resolved": False}.get(state or ("" if request.args else "open"))
        with console.reading() as connection:
            found = set_aside_storage.list_rows(
                connection, is_open=is_open, model_id=model, pull_id=pull_id, before=arguments.number("before"),
                limit=PAGE_SIZE + 1,
            )  # fmt: skip
        return console.render(
            "set_aside.html",
            records=found[:PAGE_SIZE],
            older=found[PAGE_SIZE - 1]["id"] if len(found) > PAGE_SIZE else None,
            states=STATES,
            state=state or ("" if request.args else "open"),
            model=model,
            pull=pull_id,
        )

    pages.get("/set-aside")(set_aside)
