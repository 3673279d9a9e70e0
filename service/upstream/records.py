"""Reading responses that hold models: a page whole where that is possible, all else record by record.

One odd record spoils nothing but itself. A field that cannot be used is absent, a record without a usable id is left
out, and both are named, so that people can find them.

Each function that reads raises `msgspec.ValidationError` for JSON without what is needed, with a message that names the
place and holds no value, and another `ValueError` for what is no JSON.
"""

from __future__ import annotations

import re
from datetime import UTC
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from service.upstream.fields import Payload, Time, read_fields
from service.upstream.json_text import REPLACEMENT, loads
from service.upstream.payloads import (
    CreatedModel,
    DetailedModel,
    ListedModel,
    ModelPage,
    Organization,
    Pagination,
)

T = TypeVar("T")
P = TypeVar("P", bound=Payload)

UNUSABLE_FIELD = "wrong type, out of range, not UTF-8, or too long for an index"

# Stands for bytes that are not UTF-8: Unicode says that no text uses this character.
_NOT_TEXT = "\ufdd0"
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


class UnusableRecord(NamedTuple):
    """A record, or fields of a record, that could not be used.

    Attributes:
        model_id: the model; None where its id is unreadable.
        fields: names as the upstream spells them, in alphabetical order; empty where the whole record is unreadable.
        reason: a fixed sentence; it holds no value.
        place: of the record in its page, from 0.
    """

    model_id: str | None
    fields: tuple[str, ...]
    reason: str
    place: int = 0


class ParsedBody(NamedTuple, Generic[T]):
    """The readable part of a body, and the records and fields that could not be used."""

    body: T
    set_aside: tuple[UnusableRecord, ...] = ()


_PAGE = msgspec.json.Decoder(ModelPage)
_id_of = attrgetter("id")
_times_of = [attrgetter(field.name) for field in msgspec.structs.fields(ListedModel) if field.type == Time]


def successful_page(body: bytes) -> ModelPage | None:
    """A page of the list that says `success`, and in which all is as documented and short; None: `read_page` reads it.

    Nearly every page is one. It is decoded once, and no method is called for each of its models.
    """
    # One byte is found several times as fast as six, and most bodies have no escape.
    if b"\\" in body and b"\\u0000" in body:
        return None
    try:
        page = _PAGE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if page.success is not True:
        return None
    # No id of dots alone, and all times in UTC: each value is stored as it is.
    zones = [time.tzinfo for time_of in _times_of for time in map(time_of, page.models) if time]
    if min(map(_id_of, page.models), default="/") < "/" or zones.count(UTC) < len(zones):
        return None
    return page


def read_page(body: bytes) -> ParsedBody[ModelPage]:
    """Read a page of the list."""
    document = _loads(body)
    records = document.get("models")
    if not isinstance(records, list):
        raise msgspec.ValidationError("`models` is no list")
    models: list[ListedModel] = []
    set_aside: list[UnusableRecord] = []
    for place, record in enumerate(records):
        try:
            model, unusable = _record(record, ListedModel)
        except ValueError as error:
            set_aside.append(UnusableRecord(None, (), str(error), place))
            continue
        models.append(model)
        if unusable:
            set_aside.append(UnusableRecord(model.id, unusable, UNUSABLE_FIELD, place))
    return ParsedBody(ModelPage(models=tuple(models), pagination=_pagination(document)), tuple(set_aside))


def read_single(body: bytes) -> ParsedBody[DetailedModel]:
    """Read the model in the response about one."""
    model, unusable = _only_record(_loads(body).get("model"), DetailedModel)
    set_aside = (UnusableRecord(model.id, unusable, UNUSABLE_FIELD),) if unusable else ()
    return ParsedBody(model, set_aside)


def read_created(body: bytes) -> ParsedBody[CreatedModel]:
    """Read the response to a create; only the new model's id is needed."""
    return ParsedBody(_only_record(_loads(body), CreatedModel)[0])


def read_organization(body: bytes) -> ParsedBody[Organization]:
    """Read the organization in the response about it; only its uid is needed."""
    document = _loads(body)
    # Two of the vendor's pages name its field differently.
    return ParsedBody(_only_record(document.get("organization", document.get("data")), Organization)[0])


def _loads(body: bytes) -> dict[str, Any]:
    """The body's JSON object; text that is not UTF-8 can be distinguished from other text."""
    try:
        document = loads(body, constants=True)
    except UnicodeDecodeError:
        text = body.decode(errors="surrogateescape")
        document = loads(_ESCAPED_BYTE.sub(_NOT_TEXT, text).encode(), constants=True)
    if not isinstance(document, dict):
        raise msgspec.ValidationError("the body is no object")
    return document


def _only_record(record: Any, kind: type[P]) -> tuple[P, tuple[str, ...]]:
    """The record that a response is about: without it the response is useless.

    Raises:
        msgspec.ValidationError: its id cannot be used.
    """
    try:
        return _record(record, kind)
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from None


def _record(record: Any, kind: type[P]) -> tuple[P, tuple[str, ...]]:
    """A model, and the names of its fields that cannot be used.

    Raises:
        ValueError: its id cannot be used; the message holds no value.
    """
    if isinstance(record, dict):
        # An id that had to be changed would name another model.
        record = {name: None if name == "id" and _has(value, REPLACEMENT) else value for name, value in record.items()}
        record = {name: [] if _has(value, _NOT_TEXT) else value for name, value in record.items()}
    value, unusable = read_fields(record, kind)
    return value, tuple(sorted(unusable))


def _has(value: Any, part: str) -> bool:
    return isinstance(value, str) and part in value


def _pagination(document: dict[str, Any]) -> Pagination:
    """Where the page is in the list; a part that cannot be used is as if the upstream knew nothing of it.

    Raises:
        msgspec.ValidationError: neither the total nor whether more follow can be used: no walk would find its end.
    """
    given = document.get("pagination")
    given = given if isinstance(given, dict) else {}
    parts: dict[str, Any] = {}
    for name, kind in (("total", int), ("limit", int), ("offset", int), ("hasMore", bool)):
        value = given.get(name)
        if type(value) is kind:
            parts[name] = value
    if "total" not in parts and "hasMore" not in parts:
        raise msgspec.ValidationError("`pagination` has neither a usable `total` nor a usable `hasMore`")
    return Pagination(
        total=parts.get("total", 0),
        limit=parts.get("limit", len(document["models"])),
        offset=parts.get("offset", 0),
        has_more=parts.get("hasMore", False),
    )
