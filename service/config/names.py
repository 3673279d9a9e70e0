"""Names of variables that look like ours and are none: a misspelt setting would be passed over in silence. Pure."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# No other program's variables begin so.
OURS = ("HEADSHOTPRO_", "MIRROR_API_")
# A shorter name is like too many others.
SHORTEST = 6


class Unknown(NamedTuple):
    """A variable that is no setting.

    Attributes:
        name: its name.
        meant: the setting that it may be meant for; None where none is like it.
    """

    name: str
    meant: str | None

    def __str__(self) -> str:
        question = f": did you mean {self.meant}?" if self.meant else "; the README lists every setting"
        return f"{self.name} is no setting and is ignored{question}"


def unknown(given: Iterable[str], known: Collection[str]) -> list[Unknown]:
    """Those of some names of variables that look like a setting.

    Args:
        given: names of variables.
        known: names of settings.
    """
    found = (Unknown(name, _meant(name, known)) for name in sorted({*given} - {*known}))
    return [one for one in found if one.meant or one.name.upper().startswith(OURS)]


def _meant(name: str, known: Collection[str]) -> str | None:
    """The setting whose name is nearest, where one is near: by its case, an underscore, or a letter or two."""
    if len(name) < SHORTEST or name.lower().endswith("_proxy"):
        return None
    plain = name.upper().replace("_", "")
    alike = [one for one in known if one[0] == plain[0] and len(one) >= SHORTEST and abs(len(one) - len(name)) <= 2]
    if same := [one for one in alike if one.replace("_", "") == plain]:
        return same[0]
    return next(iter(get_close_matches(name.upper(), alike, n=1, cutoff=0.88)), None)
