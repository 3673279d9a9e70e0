"""Bearer keys of our own HTTP surface: MIRROR_API_KEYS, `ro:` before one that may only read."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

READ_ONLY = "ro:"


class Keys:
    """Who may do what.

    Args:
        keys: `settings.api_keys`; with none, nobody may do anything.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [(_digest(key.removeprefix(READ_ONLY).encode()), key.startswith(READ_ONLY)) for key in keys]

    def allows(self, header: str | None, *, write: bool = False) -> bool:
        """Whether the bearer of an `Authorization` header may read, or write.

        Every key is compared, in constant time, so that an answer's time tells nothing about any of them.
        """
        given = scope_of(header)
        allowed = False
        for digest, read_only in self._digests:
            allowed |= hmac.compare_digest(given, digest) and not (write and read_only)
        return allowed


def scope_of(header: str | None) -> str:
    """The digest of the key in an `Authorization` header, in hex: it names the bearer without keeping the key."""
    scheme, _, token = (header or "").partition(" ")
    # WSGI hands headers on as Latin-1, whatever they are.
    return _digest(token.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b"")


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
