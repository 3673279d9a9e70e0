"""Who may ask: the bearer keys of our HTTP API and of `/metrics`."""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

READ_ONLY = "ro:"
_SCHEME = "bearer "


class Keys:
    """The keys of MIRROR_API_KEYS; where none is given, nobody may do anything.

    Args:
        given: the keys, `ro:` before those that may only read; it is no part of the key.
    """

    def __init__(self, given: Iterable[str]) -> None:
        self._keys = [
            (_digest(key.removeprefix(READ_ONLY).encode()), not key.startswith(READ_ONLY))
            for key in given
            if key != READ_ONLY
        ]

    def allows(self, header: str | None, write: bool) -> bool:
        """Whether a request may do what it asks.

        Takes the same time whatever is wrong: digests are compared, each of them, to the end.

        Args:
            header: its `Authorization` header, as WSGI gives it; None where it has none.
            write: whether it changes anything.
        """
        if header is None or header[: len(_SCHEME)].lower() != _SCHEME:
            return False
        # WSGI decodes the bytes of a header as Latin-1, whatever they are.
        shown = _digest(header[len(_SCHEME) :].strip().encode("latin-1", "replace"))
        found = [compare_digest(shown, digest) and (may_write or not write) for digest, may_write in self._keys]
        return any(found)


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()
