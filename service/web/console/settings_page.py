"""The page *Settings*: the effective values, without a secret, and what `doctor` finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from flask import request

from service.config import SECRETS, Settings
from service.diagnosis import diagnose
from service.status import StatusReader
from service.web.console.limits import Cached

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

FINDINGS_SECONDS = 30.0


class SettingRow(NamedTuple):
    """A setting: its name, its value as text (of a secret only whether it is set), and whether it is the default."""

    name: str
    value: str
    is_default: bool


def rows(settings: Settings) -> list[SettingRow]:
    """Every setting, in the order of `Settings`."""
    return [
        SettingRow(
            field.encode_name,
            _text(field.encode_name, getattr(settings, field.name)),
            getattr(settings, field.name) == field.default,
        )
        for field in msgspec.structs.fields(Settings)
    ]


def _text(name: str, value: object) -> str:
    if value is None:
        return "not set"
    if name in SECRETS:
        return "set (secret)"
    return str(int(value)) if isinstance(value, bool) else str(value)


def register(pages: Blueprint, console: Console) -> None:
    """Add the page."""
    reader = StatusReader(console.settings)
    # It sends a request to the upstream, so people who look again and again share one.
    findings = Cached(lambda: list(diagnose(console.settings, lambda: reader.read(figures=False))), FINDINGS_SECONDS)

    def settings() -> str:
        found = findings.get() if "doctor" in request.args else None
        return console.render("settings.html", rows=rows(console.settings), findings=found)

    pages.get("/settings")(settings)
