"""The keys of MIRROR_API_KEYS: what an entry means. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_NAME_LENGTH = 64


class Scope(IntEnum):
    """The calls that a key may make; each scope includes the ones before it."""

    METRICS = 0
    READ = 1
    WRITE = 2


# Any other word before a colon is a part of the key.
_SCOPES = {"ro": Scope.READ, "metrics": Scope.METRICS}


class ApiKey(NamedTuple):
    """One key.

    Attributes:
        name: for logs; a number where the operator gave none.
        scope: what it may do.
        key: the bearer token.
    """

    name: str
    scope: Scope
    key: str

    def __repr__(self) -> str:
        """Hides the key, which a traceback or a log must not print."""
        return f"ApiKey(name={self.name!r}, scope={self.scope.name})"


def parse(entries: Iterable[str]) -> tuple[ApiKey, ...]:
    """The keys that entries of the form `[NAME=][SCOPE:]KEY` give.

    The first `=` of an entry ends a NAME, unless it is the last character or another `=` follows: base64 ends in `=`.

    Raises:
        ValueError: an entry has no key, or its name is empty, too long, not printable or taken. The message gives the
            number of the entry and holds nothing of a key.
    """
    keys: list[ApiKey] = []
    for number, entry in enumerate(entries, 1):
        name, rest = _name_of(entry)
        word, colon, key = rest.partition(":")
        scope = _SCOPES.get(word, Scope.WRITE) if colon else Scope.WRITE
        key = (rest if scope is Scope.WRITE else key).strip()
        if not key:
            raise ValueError(f"entry {number} has no key after its scope")
        if name is not None and not (0 < len(name) <= MAX_NAME_LENGTH and name.isprintable()):
            raise ValueError(
                f"the name of entry {number} needs 1 to {MAX_NAME_LENGTH} printable characters before its `=`"
            )
        if name in {given.name for given in keys}:
            raise ValueError(f"entry {number} has the name of an entry before it: give each key a name of its own")
        keys.append(ApiKey(f"#{number}" if name is None else name, scope, key))
    return tuple(keys)


def _name_of(entry: str) -> tuple[str | None, str]:
    """The name of an entry, None where it has none, and the rest."""
    name, _, rest = entry.partition("=")
    if not rest or rest.startswith("="):
        return None, entry
    return name.strip(), rest.strip()
