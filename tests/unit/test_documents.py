"""The documents agree with the code: links, paths, settings, commands, alerts; their blocks can be read."""

from __future__ import annotations

import ast
import html
import json
import re
import subprocess
from typing import TYPE_CHECKING

import click
import msgspec
import pytest

from service.alerts import problems
from service.alerts.kinds import KINDS
from service.cli.commands import cli
from service.config.settings import SECRETS, VENDOR_API_URL, Settings
from service.storage.migrations.revision import newest
from service.storage.reader import READABLE_TABLES
from service.storage.tables.acts import audit_log
from tests.support.markdown import Block, anchors, blocks, code_words, documents, links, name_of, table_rows
from tests.support.system import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACES = ("alembic", "bench", "deploy", "docs", "requirements", "service", "tests", "workers")
# A path from the root, without a placeholder in it.
PATH = re.compile(rf"^(?:{'|'.join(PLACES)})/[\w./-]*$")
# Made by a command, so no part of a checkout.
MADE = {"deploy/.env", "deploy/settings.env", "deploy/prometheus/headshot-mirror.key", "service/migrations"}
COMMAND = re.compile(r"headshot-mirror(?: --?[a-z-]+)*(?P<words>(?: [a-z]+)+)")


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for link in links(document):
        place, _, anchor = link.partition("#")
        target = document.parent / place if place else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_every_path_in_the_prose_exists(document: Path) -> None:
    paths = {word for word in code_words(document) if PATH.match(word)}
    assert {path for path in paths - MADE if not (ROOT / path).exists()} == set()


def test_files_name_every_decision_and_none_that_is_missing() -> None:
    named = subprocess.run(
        ["git", "grep", "-hoE", r"docs/decisions/[0-9a-z-]+\.md", "--", *PLACES],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    records = {name_of(record) for record in (ROOT / "docs" / "decisions").glob("0*.md")}
    assert set(named) == records


def test_every_decision_has_its_parts_and_its_line_in_the_index() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    index = (ROOT / "docs" / "decisions" / "index.md").read_text()
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        title, date = re.findall(r"\A# \d+\. (.+)\n\n- Date: (\d{4}-\d\d-\d\d)\n- Status: \w+", text)[0]
        assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], record.name
        assert f"| [{title}]({record.name}) | {date} |" in index
        assert f"\n{record.stem}\n" in index


def test_readme_is_one_screen_or_two() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_start_that_is_shown_has_the_lines_of_up() -> None:
    source = "".join(path.read_text() for path in (ROOT / "service" / "local").glob("*.py"))
    starts = [block.text for block in blocks("") if block.text.startswith("Starting ")]
    assert len(starts) == 1
    picture = re.sub(r"<[^>]+>", "\n", (ROOT / "docs" / "images" / "up.svg").read_text())
    for start in [*starts, html.unescape(picture).replace("\xa0", " ").partition("Starting ")[2]]:
        # From there on it is the live view.
        labels = re.findall(r"^  (\w+)  +", start.partition("\nmirror ")[0], re.MULTILINE)
        assert len(labels) > 6
        assert [label for label in labels if f'"{label}"' not in source] == []


def test_the_revision_that_is_shown_is_the_newest() -> None:
    pictures = sorted((ROOT / "docs" / "images").glob("*.svg"))
    texts = {name_of(file): file.read_text().replace("&#160;", " ") for file in [*documents(), *pictures]}
    # As `doctor` and `migrate` print it.
    shown = [(name, found) for name, text in texts.items() for found in re.findall(r"\brevision (\d{4}_\w+)", text)]
    assert len(shown) > 1
    assert [place for place in shown if place[1] != newest()] == []


def setting_rows() -> dict[str, list[str]]:
    """The lines of the tables of settings by name; a line may name several."""
    rows = [row for row in table_rows("docs/settings.md") if row[0] != "name"]
    return {name: row for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def test_every_setting_is_documented_with_its_default() -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(Settings)}
    rows = setting_rows()
    assert rows.keys() == fields.keys()
    written = {None: "none", VENDOR_API_URL: "the vendor's", False: "0", True: "1"}
    for name, row in rows.items():
        default = fields[name].default
        assert row[1] == written.get(default, str(default)), name
        assert ("secret" in row[2].rpartition(". ")[2]) == (name in SECRETS), name


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, as the names that lead to it."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, (*path, name))


def resolve(words: list[str]) -> click.Command:
    """The command that some words begin with."""
    command: click.Command = cli
    for word in words:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), word)
        assert found is not None, words
        command = found
    assert not isinstance(command, click.Group), words
    return command


def test_every_command_is_documented() -> None:
    documented = {tuple(row[0].strip("`").split()[1:]) for row in table_rows("docs/command-line.md")}
    assert documented - {()} == set(leaves(cli))


def calls() -> list[tuple[str, list[str]]]:
    """The calls of our command in shell blocks: where, and the words behind its name."""
    names = ("headshot-mirror", ".venv/bin/headshot-mirror")
    return [
        (block.document, words[1:]) for block in blocks("sh") for words in block.commands if words[0] in names
    ]  # fmt: skip


def test_calls_in_shell_blocks_have_options_that_exist() -> None:
    assert len(calls()) > 20
    for document, words in calls():
        options = {word.partition("=")[0] for word in words if word.startswith("-") and word != "--"}
        command = resolve([word for word in words if not word.startswith("-")])
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        if command.name == "up":
            known |= {name for parameter in resolve(["sandbox"]).params for name in parameter.opts}
        assert options <= known | {"--help"}, (document, words)


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_commands_in_the_prose_exist(document: Path) -> None:
    for word in code_words(document):
        if found := COMMAND.fullmatch(word):
            resolve(found["words"].split())


def test_make_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word.split()[1]
        for document in documents() for word in code_words(document) if re.match(r"make [a-z-]+( |$)", word)
    }  # fmt: skip
    named |= {words[1] for block in blocks("sh") for words in block.commands if words[0] == "make"}
    assert len(named) > 10
    assert named <= targets


def test_changes_of_a_release_take_a_hundred_lines_at_most() -> None:
    # A merge of two orders once brought a hundred lines back.
    assert {name: text for name, text in sections("CHANGELOG.md").items() if len(text.splitlines()) > 100} == {}


def sections(document: str) -> dict[str, str]:
    """The parts of a document by their headings of the second level."""
    parts = re.split(r"^## (.+)$", (ROOT / document).read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_column_of_a_public_table_is_documented() -> None:
    documented = sections("docs/tables.md")
    public = (*READABLE_TABLES, audit_log)
    assert documented.keys() == {table.name for table in public}
    for table in public:
        firsts = [row.split(" | ")[0] for row in documented[table.name].splitlines() if row.startswith("| `")]
        assert sorted(re.findall(r"`(\w+)`", " ".join(firsts))) == sorted(table.columns.keys()), table.name


def test_every_alert_is_documented_and_in_the_runbook() -> None:
    kinds = set(KINDS)
    assert {row[0].strip("`") for row in table_rows("docs/alerts.md")} - {"kind"} == kinds
    assert kinds <= anchors(ROOT / "docs" / "operations" / "runbook.md")


def test_every_code_of_status_is_in_the_runbook() -> None:
    texts = [value for name, value in vars(problems).items() if name.isupper() and isinstance(value, str)]
    codes = {text for text in texts if re.fullmatch(r"[a-z]+(_[a-z]+)+", text)} | {"web_missing", "clock_missing"}
    assert problems.PULL_FAILING in codes
    section = sections("docs/operations/runbook.md")["`status` reports a problem"]
    assert codes - set(KINDS) <= set(re.findall(r"`(\w+)`", section))


def readable(block: Block) -> None:
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "python":
        ast.parse(block.text)
    elif block.language == "sh":
        assert block.commands
        subprocess.run(["sh", "-n"], input=block.text, text=True, check=True)


def test_every_code_block_can_be_read() -> None:
    found = blocks()
    known = {"", "json", "python", "sh", "sql", "acl", "{toctree}"}
    assert {block.language for block in found} <= known
    for block in found:
        readable(block)


def test_the_reader_of_the_feed_is_the_tested_one() -> None:
    source = (ROOT / "tests" / "support" / "feed_reader.py").read_text()
    shown = [block for block in blocks() if block.document == "docs/change-feed.md"]
    (follow,) = (block.text for block in shown if block.language == "python")
    assert follow in source
    statements = [block.text for block in shown if block.language == "sql" and "readers" in block.text]
    assert len(statements) == 2
    assert all(f'"""\n{text}"""' in source for text in statements)
