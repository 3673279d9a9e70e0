"""Reads deploy/Dockerfile into its instructions, for what checks it."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from tests.support.documents import DEPLOY

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCKERFILE = DEPLOY / "Dockerfile"


class Instruction(NamedTuple):
    """One instruction, its lines joined.

    Attributes:
        word: such as RUN, in capitals.
        rest: what follows it.
    """

    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """The words after the instruction; of a command in the form of a JSON list, its arguments."""
        _, bracket, listed = self.rest.partition("[")
        return json.loads(bracket + listed) if bracket and listed.endswith("]") else shlex.split(self.rest)


def instructions() -> Iterator[Instruction]:
    """Every instruction of the Dockerfile, in order."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            yield Instruction(word.upper(), rest.strip())


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, which its FROM begins; the last stage is the image."""
    found: list[list[Instruction]] = []
    for instruction in instructions():
        if instruction.word == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def only(word: str) -> Instruction:
    """The last stage's one instruction of a kind."""
    (found,) = [instruction for instruction in stages()[-1] if instruction.word == word]
    return found
