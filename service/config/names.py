"""Names of variables that look like settings and are none: a misspelt setting would be ignored in silence. Pure."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# No other program's variables begin so.
OWN_PREFIXES = ("HEADSHOTPRO_", "MIRROR_API_")
# A shorter name is like too many others.
MIN_NAME_LENGTH = 6


def find_unknown(given: Iterable[str], known: Collection[str]) -> list[str]:
    """A sentence about each of some variables that looks like a setting and is none, and which it may be meant for."""
    sentences = []
    for name in sorted({*given} - {*known}):
        if suggestion := _suggest(name, known):
            sentences.append(f"{name} is no setting and is ignored: did you mean {suggestion}?")
        elif name.upper().startswith(OWN_PREFIXES):
            sentences.append(f"{name} is no setting and is ignored; docs/settings.md lists every setting")
    return sentences


def _suggest(name: str, known: Collection[str]) -> str | None:
    """The nearest name of a setting, where one is near: by its case, an underscore, or a letter or two."""
    if len(name) < MIN_NAME_LENGTH or name.lower().endswith("_proxy"):
        return None
    plain = name.upper().replace("_", "")
    alike = [
        one for one in known if one[0] == plain[0] and len(one) >= MIN_NAME_LENGTH and abs(len(one) - len(name)) <= 2
    ]
    if same := [one for one in alike if one.replace("_", "") == plain]:
        return same[0]
    return next(iter(get_close_matches(name.upper(), alike, n=1, cutoff=0.88)), None)
