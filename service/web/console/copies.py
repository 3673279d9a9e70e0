"""A list of models or one model as SQL, as a request of the API and as a command, to be copied. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from datetime import datetime

    from service.storage.console_models import ModelSearch

API = "/api/v2/organization/models"


def of_search(search: ModelSearch, web: str) -> dict[str, str]:
    """A filter as the three; API and command line cannot look for the beginning of a name."""
    copies = {"SQL": _sql(search)}
    if search.words is not None and "@" not in search.words:
        return copies
    texts = (
        ("status", "--status", search.status),
        ("teamId", "--team", search.team_id),
        ("email", "--email", search.words),
        ("createdAfter", "--created-after", _iso(search.created_from)),
        ("createdBefore", "--created-before", _iso(search.created_until)),
    )
    given = {name: value for name, _option, value in texts if value is not None}
    command = ["headshot-mirror", "models", "list"]
    command += [word for _name, option, value in texts if value is not None for word in (option, value)]
    if search.is_development is not None:
        given["isDevelopment"] = str(search.is_development).lower()
        command.append("--development" if search.is_development else "--no-development")
    if search.status is None:
        given["includeDeleted"] = "true"
        command.append("--include-deleted")
    return copies | {"curl": _curl(f"{web}{API}?{urlencode(given)}"), "CLI": shlex.join(command)}


def of_model(model_id: str, web: str) -> dict[str, str]:
    """One model as the three."""
    return {
        "SQL": f"SELECT * FROM headshotpro.models WHERE id = {_literal(model_id)};",  # noqa: S608 - a text
        "curl": _curl(f"{web}{API}/{quote(model_id, safe='')}"),
        # An id may look like an option.
        "CLI": shlex.join(["headshot-mirror", "models", "show", "--explain", "--", model_id]),
    }


def _curl(url: str) -> str:
    return f'curl -H "Authorization: Bearer $MIRROR_API_KEY" {shlex.quote(url)}'


def _sql(search: ModelSearch) -> str:
    conditions = []
    if search.words is not None and search.only_id:
        conditions.append(f"id = {_literal(search.words)}")
    elif search.words is not None:
        words = _literal(search.words.lower())
        named = (f"starts_with(lower({column}), {words})" for column in ("email", "title"))
        conditions.append(f"({' OR '.join((f'id = {_literal(search.words)}', *named))})")
    for column, value in (("status", search.status), ("team_id", search.team_id)):
        if value is not None:
            conditions.append(f"{column} = {_literal(value)}")
    if search.is_development is not None:
        conditions.append("is_development" if search.is_development else "NOT is_development")
    for comparison, at in ((">=", search.created_from), ("<", search.created_until)):
        if at is not None:
            conditions.append(f"created_at {comparison} '{_iso(at)}'")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT * FROM headshotpro.models{where} ORDER BY created_at DESC, id DESC LIMIT 100;"  # noqa: S608 - a text


def _literal(value: str) -> str:
    """A text as Postgres reads it whatever `standard_conforming_strings` is."""
    escaped = value.replace("'", "''")
    return f"E'{escaped.replace(chr(92), chr(92) * 2)}'" if "\\" in value else f"'{escaped}'"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")
