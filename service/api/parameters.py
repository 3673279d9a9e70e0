"""From the text of a query to checked parameters. Pure; refuses as the vendor does: 400, with the parameter's name."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import UnsetType

from service.api.schemas import CreateModelBody, ListQuery
from service.errors import ApiError
from service.storage.api_queries import ModelFilter
from service.upstream.fields import utc
from service.upstream.json_text import REPLACEMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T")

_DATED = re.compile(r"[0-9]{4}-")
_WHOLE = re.compile(r"0*([0-9]{1,9})")
_NUMBERS = ("limit", "offset")
_TIMES = ("createdAfter", "createdBefore", "updatedSince")
_TEXTS = ("status", "teamId", "email")

_TIME_NEEDED = "a time such as 2024-01-15T10:30:00Z is needed"
# What msgspec says, and our words for it.
_MESSAGES = (
    ("Expected `int` >= ", "a whole number is needed, at least "),
    ("Expected `int` <= ", "a whole number is needed, at most "),
    ("Expected `bool`, got `str`", "true or false is needed"),
    ("Invalid RFC3339 encoded datetime", _TIME_NEEDED),
)
# Times of a year that Postgres' and Python's calendars share in every zone.
_FIRST = datetime(1, 1, 2, tzinfo=UTC)
_LAST = datetime(9999, 12, 30, tzinfo=UTC)


def read(given: Mapping[str, str], shape: type[Q]) -> Q:
    """The parameters of a call; those that it does not know are passed over, as the vendor does.

    Raises:
        ApiError: 400, one is not of its kind.
    """
    values: dict[str, str] = {}
    for field in msgspec.structs.fields(shape):
        text = given.get(field.encode_name)
        # An empty text filters nothing; an empty number or time is none.
        if text is not None and (text or field.encode_name not in _TEXTS):
            values[field.encode_name] = _storable(field.encode_name, text)
    try:
        return msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        for theirs, ours in _MESSAGES:
            message = message.replace(theirs, ours)
        raise _invalid(f"Invalid {place.rstrip('`')}: {message}") from None


def filter_of(query: ListQuery) -> ModelFilter:
    """The filter in the parameters of the list."""
    return ModelFilter(
        status=value_or_none(query.status),
        team_id=value_or_none(query.team_id),
        email=value_or_none(query.email),
        is_development=value_or_none(query.is_development),
        created_from=_moment(query.created_after),
        created_until=_moment(query.created_before),
        deleted=query.include_deleted,
    )


def since_of(query: ListQuery) -> int | datetime | None:
    """Where the feed begins; None: the list is requested."""
    since = query.updated_since
    if isinstance(since, UnsetType):
        return None
    return _moment(since) if isinstance(since, datetime) else since


def decode_body(body: bytes, shape: type[Q]) -> Q:
    """The JSON body of a request.

    Raises:
        ApiError: 400, it has another shape, or is no JSON.
    """
    try:
        # msgspec does not check the bytes of fields that it skips.
        body.decode()
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(f"Invalid request body: {error}") from None


def create_model_body(body: bytes) -> CreateModelBody:
    """The body of a create.

    Raises:
        ApiError: 400, it is not one.
    """
    wanted = decode_body(body, CreateModelBody)
    if "\0" in wanted.email or "\0" in (wanted.team_id or ""):
        raise _invalid("Invalid request body: a text holds a NUL")
    return wanted


def value_or_none(value: T | UnsetType) -> T | None:
    """A parameter, or None where it was not given."""
    return None if isinstance(value, UnsetType) else value


def _storable(name: str, text: str) -> str:
    """A parameter as it is compared with what is stored: there, too, a NUL became U+FFFD."""
    if name in _NUMBERS:
        number = _WHOLE.fullmatch(text)
        if number is None:
            raise _invalid(f"Invalid {name}: a whole number is needed")
        return str(int(number[1]))
    if name in _TIMES and not (_DATED.match(text) or (name == "updatedSince" and text.isdigit())):
        # msgspec would take a number for Unix seconds.
        raise _invalid(f"Invalid {name}: {_TIME_NEEDED}")
    # An offset's `+` that was not escaped comes as a blank.
    return (text.replace(" ", "+") if name in _TIMES else text).replace("\0", REPLACEMENT)


def _moment(value: datetime | UnsetType) -> datetime | None:
    """A time in UTC that Postgres takes, however far away."""
    if isinstance(value, UnsetType):
        return None
    try:
        return min(max(utc(value), _FIRST), _LAST)
    except ValueError:
        return _FIRST if value.year == 1 else _LAST


def _invalid(message: str) -> ApiError:
    return ApiError(400, "INVALID_REQUEST", message)
