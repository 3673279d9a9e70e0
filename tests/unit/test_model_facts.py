"""Texts that repeat parts of the list of model facts agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from service.local.sandbox.model import VendorModel
from service.model_fields import DELETED, FAILED, FIELDS, GROUPS, STATUSES, Kind, Personal, Source, fields_of
from service.storage.tables import model_clocks

ROOT = Path(__file__).parents[2]
# Lists of statuses in SQL.
LISTED = re.compile(r"status in \(([^)]*)\)")
DOCUMENTS = [
    path for folder in ("deploy", "docs") for path in (ROOT / folder).rglob("*") if path.suffix in {".json", ".md"}
]

HOT = {status.name for status in STATUSES if status.hot}
MOVING = {status.name for status in STATUSES if status.moving}


def test_statuses_in_documents_are_a_list_of_ours() -> None:
    lists = [set(re.findall(r"'(\w+)'", part)) for path in DOCUMENTS for part in LISTED.findall(path.read_text())]
    assert len(lists) > 3
    assert all(statuses in (HOT, MOVING, MOVING | {FAILED}) for statuses in lists), lists


def test_every_name_and_rank_is_there_once() -> None:
    for names in (
        [field.column for field in FIELDS],
        *([field.name_in(source) for field in fields_of(source)] for source in Source),
        [status.name for status in STATUSES],
        [status.rank for status in STATUSES],
    ):
        assert len(set(names)) == len(names)
    assert max(STATUSES, key=lambda status: status.rank).name == DELETED


def test_every_name_of_a_person_is_a_text() -> None:
    # Erasure searches for it inside other texts.
    names = [field for field in FIELDS if field.personal is Personal.NAME]
    assert {field.kind for field in names} <= {Kind.TEXT, Kind.ID}


def test_every_group_has_its_clock() -> None:
    assert {group.clock for group in GROUPS} <= set(model_clocks.columns.keys())


def test_the_sandbox_has_every_field() -> None:
    # The vendor's own model has a team's id alone, and one organization for all.
    elsewhere = {"team_name", "organization_id"}
    known = {field.name for field in msgspec.structs.fields(VendorModel)}
    assert {field.column for field in FIELDS} - elsewhere <= known
