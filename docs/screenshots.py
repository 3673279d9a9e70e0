"""How `make screenshots` makes the pictures of the documents, into docs/images/: of a system that runs meanwhile.

Terminals are shown as text in SVG, exported by rich from what the commands print on a terminal. Pages are shown by
Chromium. A new picture is one more line of TERMINALS or PAGES.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import secrets
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

IMAGES = Path(__file__).parent / "images"
PROGRAM = Path(sys.executable).with_name("headshot-mirror")
COLUMNS = 120
# So that some events come soon.
SANDBOX = ("--speed", "5")
START_SECONDS = 120.0


class Terminal(NamedTuple):
    """A picture of a command: the file's name, what a person types, and the columns of the terminal."""

    name: str
    arguments: tuple[str, ...]
    columns: int = COLUMNS


class Page(NamedTuple):
    """A picture of a page: the file's name, the path, and the size of the window in pixels.

    Attributes:
        name: of the file, without its end.
        path: of the page, below web's address.
        width: of the window.
        height: of the window; what is below it is not in the picture.
        dark: whether the browser asks for the dark colours.
        console: whether a person has logged in to the console before.
        follow: the link, as a CSS selector, that leads from the page to the one that is shown.
    """

    name: str
    path: str
    width: int = 1200
    height: int = 800
    dark: bool = False
    console: bool = False
    follow: str | None = None


TERMINALS = (
    Terminal("status", ("status",)),
    Terminal("doctor", ("doctor",)),
    Terminal("models", ("models", "list", "--limit", "8"), 132),
    Terminal("events", ("events", "list", "--limit", "8"), 144),
)
PAGES: tuple[Page, ...] = (
    Page("api-docs", "/api/docs"),
    Page("api-docs-phone", "/api/docs", 375, 720),
    Page("console", "/console/", console=True),
    Page("console-dark", "/console/", dark=True, console=True),
    Page("console-phone", "/console/", 375, 720, console=True),
    Page("console-models", "/console/models", console=True),
    Page("console-model", "/console/models?status=failed", console=True, follow="td a[href^='/console/models/']"),
    Page("console-model-dark", "/console/models", dark=True, console=True, follow="td a[href^='/console/models/']"),
    Page("console-events", "/console/events", console=True),
    Page("console-event", "/console/events", dark=True, console=True, follow="td a[href^='/console/events/']"),
    Page("console-pulls", "/console/pulls", console=True),
    Page("console-pull", "/console/pulls", dark=True, console=True, follow="td a[href^='/console/pulls/']"),
    Page("console-set-aside", "/console/set-aside", console=True),
    Page("console-accuracy", "/console/accuracy", dark=True, console=True),
    Page("console-alerts", "/console/alerts", console=True),
    Page("console-login", "/console/login"),
)
# How often an empty page is read anew, with five seconds between.
WAITS = 24


class Recording:
    """A command on a terminal of its own, and what it has printed there.

    Args:
        arguments: of `headshot-mirror`.
        folder: its working folder.
        columns: of the terminal.
    """

    def __init__(self, arguments: tuple[str, ...], folder: Path, columns: int) -> None:
        self._reader, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
        hidden = ("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY", "NO_COLOR", "COLUMNS", "LINES")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
        )
        os.close(terminal)
        self._output = b""

    def read(self, seconds: float) -> str:
        """Wait some seconds for more output, and return all of it so far."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._reader], [], [], left)[0]:
                break
            try:
                self._output += os.read(self._reader, 65536)
            except OSError:
                # The command has ended.
                break
        return self._output.decode(errors="replace").replace("\r\n", "\n")

    def wait(self) -> str:
        """Wait until the command ends, and return its output."""
        while self.process.poll() is None:
            self.read(0.2)
        return self.read(0.2)


def main() -> None:
    """Make every picture, or those whose names are given."""
    wanted = set(sys.argv[1:])
    names = {"up", "problem", *(one.name for one in TERMINALS), *(one.name for one in PAGES)}
    if unknown := wanted - names:
        sys.exit(f"no picture has the name {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headshot-mirror-") as name:
        folder = Path(name).resolve()
        # Without a password the console is off.
        os.environ.setdefault("CONSOLE_PASSWORD", secrets.token_hex(8))
        with running(folder) as up:
            make_pictures(folder, up, lambda picture: not wanted or picture in wanted)


def make_pictures(folder: Path, up: Recording, is_wanted: Callable[[str], bool]) -> None:
    """Make the pictures that are wanted; `up` is read before each, so that its terminal never blocks it."""

    def save(name: str, title: str, text: str, columns: int = COLUMNS) -> None:
        save_terminal(name, title, shorten(text, folder), columns)

    if is_wanted("up"):
        save("up", "make run", last_view(up.read(5)))
    for picture in TERMINALS:
        if is_wanted(picture.name):
            up.read(0.1)
            shown = Recording(picture.arguments, folder, picture.columns).wait()
            save(picture.name, " ".join(("headshot-mirror", *picture.arguments)), shown, picture.columns)
    pages = [page for page in PAGES if is_wanted(page.name)]
    if pages:
        settings = json.loads((folder / ".headshot-mirror" / "sandbox" / "settings.json").read_text())
        save_pages(pages, settings, up)
    if is_wanted("problem"):
        with stopped_worker(up):
            while "no worker seen" not in (shown := Recording(("status",), folder, COLUMNS).wait()):
                up.read(2)
        save("problem", "headshot-mirror status", shown)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Recording]:
    """The system with its sandbox, until its first pull is complete and some events are applied."""
    up = Recording(("up", "--", *SANDBOX), folder, COLUMNS)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not re.search(r"freshness +pulled [0-9]{2,} s ago", plain(last_view(up.read(1)))):
            if up.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the system did not start:\n{plain(up.read(0))}")
        yield up
    finally:
        up.process.send_signal(signal.SIGINT)
        up.wait()


@contextlib.contextmanager
def stopped_worker(up: Recording) -> Iterator[None]:
    """The worker hangs during the block."""
    children = Path(f"/proc/{up.process.pid}/task/{up.process.pid}/children").read_text().split()
    (worker,) = [int(pid) for pid in children if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.killpg(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(worker, signal.SIGCONT)


def last_view(output: str) -> str:
    """The lines that stay, and the last view below them: what a person sees on the terminal."""
    # Rich moves up line by line before it draws a view anew.
    views = re.split(r"(?:\x1b\[[0-9]*[AK]|\r)+", output)
    first = views[0]
    if len(views) == 1:
        return first
    return first[: first.rindex("mirror  ")] + next(view for view in reversed(views) if view.startswith("mirror"))


def plain(text: str) -> str:
    """Text of a terminal without its colours."""
    return Text.from_ansi(text).plain


def shorten(text: str, folder: Path) -> str:
    """The text without the folders of this machine."""
    return text.replace(str(folder), "…").replace(str(PROGRAM), f".venv/bin/{PROGRAM.name}")


def save_terminal(name: str, title: str, text: str, columns: int) -> None:
    """Save what a terminal shows as SVG; it refers to nothing outside, so it looks the same everywhere."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=columns, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=False)
        svg = console.export_svg(title=title, theme=MONOKAI, unique_id=name)
    # The fonts of the web that rich names; without them the viewer's own is taken.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    path = IMAGES / f"{name}.svg"
    path.write_text(svg)
    print(path)


def save_pages(pages: Sequence[Page], settings: Mapping[str, str], up: Recording) -> None:
    """Save pages as PNG."""
    from tests.support.browser import chromium  # noqa: PLC0415 - terminals need no browser

    base = f"http://127.0.0.1:{settings.get('PORT', '8000')}"
    with chromium() as browser:
        for picture in pages:
            up.read(0.1)
            context = browser.new_context(
                viewport={"width": picture.width, "height": picture.height},
                color_scheme="dark" if picture.dark else "light",
                base_url=base,
            )
            page = context.new_page()
            if picture.console:
                page.goto("/console/login")
                page.fill("input[name=password]", settings["CONSOLE_PASSWORD"])
                page.press("input[name=password]", "Enter")
                page.wait_for_url("**/console/")
            page.goto(picture.path)
            if picture.follow:
                # The demo's models change: a page such as that of failed ones may be empty for a while.
                for _ in range(WAITS):
                    if page.locator(picture.follow).count():
                        break
                    page.wait_for_timeout(5_000)
                    page.reload()
                page.locator(picture.follow).first.click()
                page.wait_for_load_state()
            path = IMAGES / f"{picture.name}.png"
            page.screenshot(path=path)
            print(path)
            context.close()


if __name__ == "__main__":
    main()
