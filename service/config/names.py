"""Names of variables that look like settings and are none: a misspelt setting would be ignored in silence. Pure."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# No other program's variables begin so.
OWN_PREFIXES = ("HEADSHOTPRO_", "MIRROR_API_")
# A shorter name is like too many others.
MIN_NAME_LENGTH = 6


class UnknownSetting(NamedTuple):
    """A variable that is no setting.

    Attributes:
        name: its name.
        suggestion: the setting that it may be meant for; None where none is like it.
    """

    name: str
    suggestion: str | None

    def __str__(self) -> str:
        question = f": did you mean {self.suggestion}?" if self.suggestion else "; docs/settings.md lists every setting"
        return f"{self.name} is no setting and is ignored{question}"


def find_unknown(given: Iterable[str], known: Collection[str]) -> list[UnknownSetting]:
    """The variables among some names that look like a setting and are none.

    Args:
        given: names of variables.
        known: names of settings.
    """
    found = (UnknownSetting(name, _suggest(name, known)) for name in sorted({*given} - {*known}))
    return [one for one in found if one.suggestion or one.name.upper().startswith(OWN_PREFIXES)]


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
