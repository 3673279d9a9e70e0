"""The pages *Audit*, with each act of a person or an API client, one act, and the task of workers that an act began."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound

from service.storage import audit as storage
from service.storage import history, tasks
from service.web.console import act_results, arguments

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

PAGE_SIZE = 50
KINDS = (storage.CONSOLE, storage.API, storage.COMMAND_LINE)
OUTCOMES = (storage.BEGUN, storage.DONE, storage.REFUSED, storage.FAILED, storage.UNKNOWN)
TITLES = {tasks.REPLAY: "Replay of events", tasks.RELEASE: "Release of a held pull", tasks.ERASE: "Erasure"}


def register(pages: Blueprint, console: Console) -> None:
    """Add the pages."""

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

    def act(row_id: int) -> str:
        with console.reading() as connection:
            row = storage.one(connection, row_id) if row_id <= arguments.MAX_NUMBER else None
            if row is None:
                raise NotFound(f"There is no act {row_id}: acts are kept for {storage.RETENTION_DAYS} days.")
            change_id = row["detail"].get("change")
            change = history.one(connection, change_id) if isinstance(change_id, int) else None
        return console.render(
            "act_result.html",
            row=row,
            change=change,
            title=act_results.title(row),
            text=act_results.explain(row),
            detail={name: value for name, value in row["detail"].items() if name not in act_results.SHOWN},
        )

    def task(task_id: int) -> str:
        """How far workers are with what an operator began."""
        with console.reading() as connection:
            row = tasks.one(connection, task_id) if task_id <= arguments.MAX_NUMBER else None
        if row is None:
            raise NotFound(f"There is no task {task_id}.")
        return console.render("task.html", task=row, title=TITLES.get(row["kind"], row["kind"]))

    pages.get("/audit")(audit)
    pages.get("/audit/<int:row_id>")(act)
    pages.get("/tasks/<int:task_id>")(task)
