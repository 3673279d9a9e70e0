"""Keeps secrets out of everything that is printed or logged, also where a server's own message repeats one.

A process remembers the secrets of its settings when it reads them (`service.config`). Every `MirrorError`, every log
line and whatever the vendor says is passed through `redact`.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

REDACTED = "[redacted]"
# A shorter one may be a word of its own, such as a database's name, and would make messages unreadable.
MIN_SECRET_LENGTH = 8

# One URL of a list with commas between its parts, as they are in ALERT_URLS.
_URLS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?:(?!,\s*[a-zA-Z][a-zA-Z0-9+.-]*://).)*")

_variants: tuple[str, ...] = ()


def register_secrets(secrets: Iterable[str]) -> None:
    """Replace the secrets that this process knows; those under eight characters are passed over."""
    global _variants  # noqa: PLW0603 - one process has one set of settings
    found = {form for secret in secrets if len(secret) >= MIN_SECRET_LENGTH for form in _variants_of(secret)}
    # The longest first: one secret may be a part of another.
    _variants = tuple(sorted(found, key=lambda form: (-len(form), form)))


def redact(text: str) -> str:
    """The text with every known secret replaced, as it is or encoded for a URL, JSON or base64."""
    for form in _variants:
        if form in text:
            text = text.replace(form, REDACTED)
    return text


def redact_bytes(body: bytes) -> bytes:
    """The same for bytes; the very same ones where they hold no secret."""
    text = body.decode("utf-8", "surrogateescape")
    redacted = redact(text)
    return body if redacted is text else redacted.encode("utf-8", "surrogateescape")


def passwords_in(value: str) -> set[str]:
    """The passwords in the URLs of a setting, percent-encoded as they are and decoded."""
    found: set[str] = set()
    for url in _URLS.findall(value):
        try:
            parts = urlsplit(url)
        except ValueError:
            continue
        given = [parts.password or ""]
        given += [text for name, text in parse_qsl(parts.query) if "password" in name.lower()]
        found |= {form for text in given for form in (text, unquote(text)) if form}
    return found


def _variants_of(secret: str) -> set[str]:
    encoded = b64encode(secret.encode("utf-8", "replace")).decode()
    return {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        encoded.rstrip("="),
    }
