"""How values look on the console's pages: filters and functions of its templates. Pure, but for the request's URL."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from flask import request
from markupsafe import Markup, escape
from werkzeug.datastructures import MultiDict

from service.model_fields import FIELDS, Kind, Personal
from service.plain_text import escape_controls, indented_json

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = "hidden"
TIME_COLUMNS = {"deleted_at", "erased_at", *(field.column for field in FIELDS if field.kind is Kind.TIME)}
# A row of a list takes about as long.
PARTS_OF_A_PIECE = 20

# The look of each status, of models and of all else: a word, a sign and a colour say the same.
_TONES = {
    "good": ("active", "applied", "complete", "ok", "resolved", "running now"),
    "busy": ("running", "pending", "generatingHeadshots", "waiting", "onboarding", "sending", "duplicate"),
    "warn": ("held", "stale", "acknowledged", "hint", "late", "retrying", "set aside"),
    "bad": ("failed", "dead", "open", "lost", "BAD", "missing"),
    "off": ("deleted", "ignored", "unknown", "paused", "removed", "erased"),
}
# The name of a tone is a word of it: a page may name the look of a status that others have, too.
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in (tone, *words)}
_SIGNS = {"good": "✓", "busy": "◌", "warn": "!", "bad": "✕", "off": "–"}


class Tone(NamedTuple):
    """The colour of a chip, as a word of the style sheet, and the sign beside its text."""

    name: str
    sign: str


def tone(status: object) -> Tone:
    """How a status looks; one that is not known looks like none."""
    name = _TONE_OF.get(str(status), "off")
    return Tone(name, _SIGNS[name])


def exact_time(value: datetime | None) -> str:
    """A time to the second in UTC, as it reads without JavaScript."""
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def stored_time(value: str) -> str:
    """The time of a JSON document, as people read it; without a zone it is UTC. Another text, such as an id, stays."""
    try:
        # Python would read an id of eight digits as a day.
        at = datetime.fromisoformat("" if value.isdigit() else value)
        at = at.astimezone(UTC) if at.tzinfo else at
    except (ValueError, OverflowError):
        return visible(value)
    return f"{at.replace(tzinfo=None).isoformat(' ', 'milliseconds')} UTC"


def iso_time(value: datetime) -> str:
    """A time for a `datetime` attribute."""
    return value.astimezone(UTC).isoformat()


def number(value: float | None) -> str:
    """A number with its thousands apart."""
    if value is None:
        return "–"
    return f"{value:,.1f}" if isinstance(value, float) and not value.is_integer() else f"{int(value):,}"


def percent(share: float | None) -> str:
    """A share of 1, with two figures where it is small."""
    if share is None:
        return "–"
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.1 else f"{100 * share:.2g} %"


def duration(seconds: float | None) -> str:
    """A duration in the largest unit that shows two figures of it."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    for unit, size in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 120 * size or (unit == "h" and seconds < 48 * size):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def visible(value: object) -> str:
    """A text from outside in one piece, control characters shown; a dash where there is none."""
    return "–" if value is None or value == "" else escape_controls(str(value))


def pretty_json(document: object) -> str:
    """A document as people read it; control characters are escaped."""
    return escape_controls(indented_json(document), lines=True)


# The parts of a document: a text, which is a key if a colon follows; a number or a word.
_JSON_PART = re.compile(r'"(?:[^"\\]|\\.)*"(:)?|[^\s"{}\[\],:]+')


def highlight(document: str) -> Iterator[Markup]:
    """A JSON document that `pretty_json` made, its keys, texts and words in colours: pieces, as it may be long."""
    piece, end = "", 0
    for number, part in enumerate(_JSON_PART.finditer(document), 1):
        kind = "key" if part[1] else "text" if part[0].startswith('"') else "word"
        piece += f'{escape(document[end : part.start()])}<span class="{kind}">{escape(part[0])}</span>'
        end = part.end()
        if number % PARTS_OF_A_PIECE == 0:
            yield Markup(piece)  # noqa: S704 - escaped above
            piece = ""
    yield Markup(f"{piece}{escape(document[end:])}")  # noqa: S704 - escaped


def page_url(kind: str, key: object) -> str:
    """The page of a model, an event or a pull; ids come from outside and may hold any character."""
    return f"/console/{kind}/{quote(str(key), safe='')}"


def url_with(**changes: object) -> str:
    """This page's URL with some parameters changed; None removes one."""
    parameters: MultiDict[str, Any] = MultiDict(request.args)
    for name, value in changes.items():
        parameters.poplist(name)
        if value is not None:
            parameters[name] = value
    query = urlencode(list(parameters.items(multi=True)))
    return f"{this_path()}?{query}" if query else this_path()


def this_path() -> str:
    """This page's path as a URL has it: ids in it may hold `?` and `#`."""
    return quote(request.path)


class Names:
    """Shows people's names and addresses, or hides them where CONSOLE_SHOW_NAMES is 0."""

    def __init__(self, *, shown: bool) -> None:
        self.shown = shown
        personal = [field for field in FIELDS if field.personal is Personal.NAME]
        self._columns = {field.column for field in personal}
        self._keys = self._columns | {
            name for field in personal for name in (field.json_name, field.webhook_name) if name
        }

    def person(self, value: object) -> str:
        """A name or an address."""
        if value is None or value == "":
            return "–"
        return visible(value) if self.shown else HIDDEN

    def field(self, column: str, value: object) -> object:
        """The value of a column of `models`; hidden where it names a person."""
        return value if self.shown or value is None or column not in self._columns else HIDDEN

    def text(self, value: object, column: str) -> str:
        """The value of a column of `models` as text, for a template."""
        shown = self.field(column, value)
        if isinstance(shown, datetime):
            return exact_time(shown)
        if isinstance(shown, str) and column in TIME_COLUMNS:
            return stored_time(shown)
        return str(shown).lower() if isinstance(shown, bool) else visible(shown)

    def body(self, payload: Any) -> Any:
        """The body of an event; one that is no JSON is a text, in which a name may be anywhere."""
        return HIDDEN if isinstance(payload, str) and not self.shown else self.document(payload)

    def document(self, value: Any) -> Any:
        """A JSON document, such as the body of an event, without the values of fields that name a person."""
        if self.shown:
            return value
        if isinstance(value, dict):
            return {key: self._of_key(key, inner) for key, inner in value.items()}
        if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
            # It may be a document of its own.
            return HIDDEN
        return [self.document(inner) for inner in value] if isinstance(value, list) else value

    def _of_key(self, key: str, value: Any) -> Any:
        if key in self._keys and value is not None and not isinstance(value, bool):
            return HIDDEN
        return self.document(value)
