"""The project's documents as a test reads them: links, headings, code blocks, commands."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from tests.support.system import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w{}-]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A code block.

    Attributes:
        document: where it is, from the root.
        language: as its fence names it; empty where it names none.
        text: without the fence and its indentation.
    """

    document: str
    language: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a shell block, split; comments and the part after a pipe are left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = [shlex.split(line, comments=True) for line in lines if line.strip()]
        return [line[: line.index("|")] if "|" in line else line for line in words if line]


def documents() -> list[Path]:
    """Every document that people read; the first line of each is its title."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "deploy").glob("*.md"))]


def name_of(document: Path) -> str:
    """Its path from the root."""
    return document.relative_to(ROOT).as_posix()


def blocks(language: str | None = None) -> list[Block]:
    """The code blocks of all documents, or those in a language."""
    found = [block for document in documents() for block in _blocks(document)]
    return [block for block in found if language is None or block.language == language]


def _blocks(document: Path) -> Iterator[Block]:
    for match in _FENCE.finditer(document.read_text()):
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        yield Block(name_of(document), match["language"], text)


def prose(document: Path) -> str:
    """A document without its code blocks."""
    return _FENCE.sub("", document.read_text())


def links(document: Path) -> list[str]:
    """Where the links of a document lead that are not addresses."""
    targets = [match["target"] for match in _LINK.finditer(prose(document))]
    return [target for target in targets if "://" not in target]


def code_words(document: Path) -> list[str]:
    """The text between backticks in a document's prose."""
    return _CODE.findall(prose(document))


def anchors(document: Path) -> set[str]:
    """The headings of a document as links name them: lower case, hyphens for spaces, punctuation left out."""
    headings = _HEADING.findall(prose(document))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(document: str) -> list[list[str]]:
    """The cells of every line of a document's tables, heads included."""
    lines = [line for line in (ROOT / document).read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if not line.startswith("|---")]
