"""The page of a task: how far workers are with what an operator began."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound

from service.storage import tasks as storage
from service.web.console import arguments

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

TITLES = {storage.REPLAY: "Replay of events", storage.RELEASE: "Release of a held pull", storage.ERASE: "Erasure"}


def register(pages: Blueprint, console: Console) -> None:
    """Add the page."""

    def task(task_id: int) -> str:
        with console.reading() as connection:
            row = storage.one(connection, task_id) if task_id <= arguments.MAX_NUMBER else None
        if row is None:
            raise NotFound(f"There is no task {task_id}.")
        return console.render("task.html", task=row, title=TITLES.get(row["kind"], row["kind"]))

    pages.get("/tasks/<int:task_id>")(task)
