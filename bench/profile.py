"""`make profile`: where the time goes in web under load, in a worker that drains a full inbox, and in a full pull.

`python -m bench.profile [web] [worker] [pull] [--seconds 10]`. py-spy looks two hundred times a second. Each
profile is written to `.bench/` for https://www.speedscope.app, which also works offline; what took most is printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING, Any

from bench.api import _sandbox
from bench.clients import run_unthrottled
from bench.request_file import write_requests
from service.broker.client import connect_redis
from service.broker.inbox import Delivery, Inbox
from service.broker.jobs import DRAIN_QUEUE, Job, JobQueue
from service.local.servers import Postgres, Valkey
from service.parent_death import die_with_parent
from service.storage.migrations.schema import migrate
from tests.support.processes import eventually, processes_in
from tests.support.system import PROGRAMS, ROOT, System, event_body, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BENCH = ROOT / ".bench"
PY_SPY = BENCH / "bin" / "py-spy"
LOOKS_A_SECOND = 200
SHOWN = 25
WAITING = 30_000
MODELS = 20_000


def main() -> int:
    """Profile what is asked for; 2 where py-spy is missing."""
    profiles: dict[str, Callable[[System, Valkey, Path, float], None]] = {
        "web": _of_web,
        "worker": _of_worker,
        "pull": _of_pull,
    }
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("which", nargs="*", choices=[*profiles, []], help="all by default")
    parser.add_argument("--seconds", type=float, default=10, help="how long web is under load")
    given = parser.parse_args()
    if not PY_SPY.exists():
        sys.stderr.write(f"py-spy is missing: `make profile` installs it into {BENCH}\n")
        return 2
    for name in given.which or profiles:
        path = BENCH / f"{name}.speedscope.json"
        with _system() as (system, valkey):
            profiles[name](system, valkey, path, given.seconds)
        print(f"\n{name}: {path}\n{_summary(json.loads(path.read_text()))}", flush=True)
    return 0


@contextmanager
def _system() -> Iterator[tuple[System, Valkey]]:
    """Servers, and nothing of ours started yet."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hm-", ignore_cleanup_errors=True)))
        (folder / "processes").mkdir()
        postgres = stack.enter_context(Postgres.start(folder / "postgres"))
        valkey = stack.enter_context(Valkey.start(folder / "valkey", sync="everysec"))
        migrate(postgres.url)
        urls = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}
        yield stack.enter_context(System(folder / "processes", **urls, WEB_CONCURRENCY="1")), valkey


def _of_web(system: System, _valkey: Valkey, path: Path, seconds: float) -> None:
    """One web process, as many deliveries as it takes."""
    web = system.start("web")
    system.wait_for_web()
    run_unthrottled(system.port, write_requests(system.folder / "requests", 20_000), 2)
    requests = write_requests(system.folder / "requests", int(8_000 * seconds))
    with _recording(path, web.process.pid):
        run_unthrottled(system.port, requests, seconds)


def _of_worker(system: System, valkey: Valkey, path: Path, _seconds: float) -> None:
    """One worker, from a full inbox to an empty one."""
    with connect_redis(valkey.url) as client:
        box = Inbox(client)
        for _ in range(WAITING // 500):
            box.put(*(_delivery() for _ in range(500)))
        worker = system.start("worker")
        assert eventually(lambda: DRAIN_QUEUE in str(processes_in(system.folder)), 30), system.logs()
        time.sleep(2)
        with _recording(path, worker.process.pid):
            JobQueue(client).enqueue(Job.DRAIN)
            assert eventually(lambda: box.depth().events == 0, 300), system.logs()


def _delivery() -> Delivery:
    now = datetime.now(UTC)
    return Delivery.arrived(event_body(new_id(), title="Jürgen Müller"), int(now.timestamp()), now)


def _of_pull(system: System, _valkey: Valkey, path: Path, _seconds: float) -> None:
    """A first full pull, from its start to its end."""
    with _sandbox(MODELS) as sandbox:
        system.settings |= {"HEADSHOTPRO_API_URL": sandbox.url, "HEADSHOTPRO_API_KEY": sandbox.api_key}
        pull = system.run("pull", [*_py_spy(path), "--", str(PROGRAMS / "headshot-mirror"), "pull", "--full"])
        assert pull.process.wait(600) == 0, pull.said


@contextmanager
def _recording(path: Path, pid: int) -> Iterator[None]:
    """Look at a process and its children during the block."""
    command = die_with_parent([*_py_spy(path), "--pid", str(pid)], SIGTERM)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as recorder:
        time.sleep(1)
        assert recorder.poll() is None, "py-spy may not look at our processes: run it as root, or allow ptrace"
        yield
        recorder.send_signal(SIGINT)
    assert path.exists(), "py-spy wrote nothing"


def _py_spy(path: Path) -> list[str]:
    path.unlink(missing_ok=True)
    options = ["--subprocesses", "--nonblocking", "--rate", str(LOOKS_A_SECOND), "--format", "speedscope"]
    return [str(PY_SPY), "record", *options, "--output", str(path)]


def _summary(profile: dict[str, Any]) -> str:
    """The functions in which most looks found it, with what they called and without."""
    frames = profile["shared"]["frames"]
    names = [f"{frame['name']} ({Path(frame['file'] or '').name})" for frame in frames]
    whole, own = Counter[str](), Counter[str]()
    # A process is the root of its stacks, and has no file; what holds nothing else is no work of ours.
    stacks = [stack for thread in profile["profiles"] for stack in thread["samples"] if stack]
    stacks = [stack for stack in stacks if frames[stack[-1]]["file"]]
    for stack in stacks:
        whole.update({names[place] for place in stack if frames[place]["file"]})
        own[names[stack[-1]]] += 1
    lines = [f"{len(stacks)} looks at work", "with what it calls", *_most(whole, len(stacks))]
    return "\n".join([*lines, "by itself", *_most(own, len(stacks))])


def _most(counts: Counter[str], looks: int) -> list[str]:
    return [f"  {count / looks:6.1%}  {name}" for name, count in counts.most_common(SHOWN)]


if __name__ == "__main__":
    sys.exit(main())
