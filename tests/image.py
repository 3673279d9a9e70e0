"""deploy/Dockerfile carried out where there is no container engine: its own lines, in a root folder, as root on Linux.

`python -m tests.image build BASE FOLDER` makes the image's root in FOLDER. BASE is a root with the Python that FROM
names; deploy/README.md makes one with debootstrap.

`python -m tests.image run FOLDER [-e NAME=VALUE]… [COMMAND…]` runs a command of it as an engine does with a read-only
root: the image's user and variables, no rights, a process id of its own, nothing to write on but /tmp in memory.
`run FOLDER health` runs the HEALTHCHECK. Left out: layers, EXPOSE, and a network of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template

from service.config import environment
from tests.support.dockerfile import Instruction, only, stages
from tests.support.system import ROOT

# As a shell of an engine has it.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A root that is read-only for whoever comes after, with what every engine puts into it.
_CLOSED = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -o remount,bind,ro "$1"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$1/tmp"
root=$1; user=$2; shift 2
exec chroot "$root" setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all -- "$@"
"""


class Stage:
    """One stage that is being built.

    Args:
        root: where its files are.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.variables = {"PATH": PATH}
        self.folder = "/"

    def carry_out(self, instruction: Instruction, others: dict[str, Stage]) -> None:
        """One instruction; those that change no file are passed over."""
        if instruction.word == "ENV":
            pairs = (word.partition("=") for word in instruction.words)
            self.variables |= {name: Template(value).substitute(self.variables) for name, _, value in pairs}
        elif instruction.word == "WORKDIR":
            self.folder = instruction.rest
            self._inside(self.folder).mkdir(parents=True, exist_ok=True)
        elif instruction.word == "COPY":
            self._copy(instruction.words, others)
        elif instruction.word == "RUN":
            self._run(instruction.rest)

    def _copy(self, words: list[str], others: dict[str, Stage]) -> None:
        source = ROOT
        if words[0].startswith("--from="):
            source = others[words.pop(0).partition("=")[2]].root
        *files, target = words
        for name in files:
            origin, goal = source / name.lstrip("/"), self._inside(target)
            if origin.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(
                    origin, goal, symlinks=True, dirs_exist_ok=True, ignore=ignored if source == ROOT else None
                )
                continue
            goal = goal / origin.name if target.endswith("/") else goal
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, goal)

    def _inside(self, path: str) -> Path:
        return self.root / os.path.normpath(f"{self.folder}/{path}" if not path.startswith("/") else path).lstrip("/")

    def _run(self, command: str) -> None:
        # How this machine reaches its package index is its own affair, and goes into the build alone.
        own = {name: value for name, value in environment().items() if name.startswith("PIP_")}
        inside = ["chroot", str(self.root), "/bin/sh", "-c", f"cd {self.folder} && {command}"]
        subprocess.run(inside, env={**own, **self.variables}, check=True)


def build(base: Path, folder: Path) -> None:
    """Carry out every stage; the last one's root ends up in `folder`."""
    built: dict[str, Stage] = {}
    for place, stage in enumerate(stages()):
        name = stage[0].words[-1] if "AS" in stage[0].words else ""
        root = folder if place == len(stages()) - 1 else folder.with_name(f"{folder.name}-{name or place}")
        subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", root], check=True)
        built[name] = Stage(root)
        for instruction in stage:
            built[name].carry_out(instruction, built)


def run(root: Path, arguments: list[str]) -> int:
    """Run a command in the built root: its exit status."""
    closed = Stage(root)
    for instruction in stages()[-1]:
        if instruction.word == "ENV":
            closed.carry_out(instruction, {})
    variables = dict(closed.variables)
    while arguments[:1] == ["-e"]:
        name, _, variables[name] = arguments[1].partition("=")
        arguments = arguments[2:]
    command = only("HEALTHCHECK").words if arguments == ["health"] else arguments or only("CMD").words
    inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGTERM", "sh", "-c", _CLOSED, "-"]
    return subprocess.run([*inside, root, only("USER").rest, *command], env=variables, check=False).returncode


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "build":
        build(Path(rest[0]), Path(rest[1]))
    else:
        sys.exit(run(Path(rest[0]), rest[1:]))
