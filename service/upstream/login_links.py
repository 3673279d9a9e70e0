"""Takes `signedUrl` out of a webhook body: a login link to a person's account, which must not be stored anywhere.

It works on the JSON text, not on decoded values: the rest of the body stays as the vendor wrote it, and nesting of any
depth needs no recursion.
"""

from __future__ import annotations

import json
import re
from typing import Any

NAME = "signedUrl"
_IN_BYTES = NAME.encode()

# A text, one character of JSON's structure, or a number or word. A text without end is one to the end of the body: its
# escaped quotes would each be searched to there again.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)
# Letters of the name may be written as escapes; these are the only ones of ASCII letters.
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_ESCAPED_QUOTE = re.compile(rb"\\u0022")


def without_login_links(body: bytes) -> bytes:
    r"""The body without its members called `signedUrl`, at any depth; the very same bytes where it has none.

    A name counts by what it decodes to: `"\u0073ignedUrl"` is one. So does one in JSON that is a text of the body.
    White space between the parts of a body is lost where something is taken out. Of bytes that are no JSON in UTF-8,
    what looks like such a member is taken out.
    """
    # Nearly every body has neither; a search for a pattern costs as much as all else here.
    if _IN_BYTES not in body and not (b"\\u00" in body and _ESCAPED_LETTER.search(body)):
        return body
    tokens = _TOKEN.findall(body)
    kept: list[bytes] = []
    place = 0
    while place < len(tokens):
        if _is_link(tokens, place):
            place = _after_value(tokens, place + 2)
            if tokens[place : place + 1] == [b","]:
                place += 1
            elif kept and kept[-1] == b",":
                kept.pop()
        else:
            kept.append(_text_within(tokens[place]))
            place += 1
    return body if kept == tokens else b"".join(kept)


def remove_login_links(payload: Any) -> Any:
    """A stored payload without its login links; one that is a text is a body that was no JSON."""
    if isinstance(payload, str):
        return without_login_links(payload.encode()).decode()
    return json.loads(without_login_links(json.dumps(payload).encode()))


def _is_link(tokens: list[bytes], place: int) -> bool:
    """Whether a member with this name begins here: only names are followed by a colon."""
    if tokens[place + 1 : place + 2] != [b":"]:
        return False
    name = tokens[place]
    if b"\\" not in name:
        return name == b'"signedUrl"'
    try:
        return bool(json.loads(name) == NAME)
    except ValueError:
        return False


def _text_within(token: bytes) -> bytes:
    """A token without the login links of the JSON that it holds as a text."""
    if not token.startswith(b'"') or (b'\\"' not in token and not _ESCAPED_QUOTE.search(token)):
        return token
    try:
        text = json.loads(token).encode()
    except ValueError:
        return token
    left = without_login_links(text)
    return token if left == text else json.dumps(left.decode(), ensure_ascii=False).encode()


def _after_value(tokens: list[bytes], place: int) -> int:
    """The place behind the value that begins here."""
    depth = 0
    # No slice: it would copy the rest of the body once for each link.
    for behind in range(place, len(tokens)):
        token = tokens[behind]
        depth += (token in (b"{", b"[")) - (token in (b"}", b"]"))
        if depth <= 0:
            return behind + 1
    return len(tokens)
