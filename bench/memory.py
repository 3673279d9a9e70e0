"""Memory of every process while a million events go through the endpoint: `python -m bench.memory --events 1000000`.

Senders keep their connections and send requests a batch at a time, so that the endpoint is busy and not they. A line
for each hundred thousand events shows what web, worker, clock and Redis hold, and what waits.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import socket
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from service.broker import inbox
from service.broker.client import connect_redis
from service.local.servers import Postgres, Valkey
from service.storage.migrations.schema import migrate
from tests.support.processes import eventually, processes_in
from tests.support.system import WEBHOOK_PATH, System, event_body, new_id, rows, signed

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

SENDERS = 8
PIPELINED = 50
MODELS = 5_000
STATUSES = ("waiting", "pending", "generatingHeadshots", "active", "failed")
KINDS = {"headshot-mirror web": "web", "headshotpro-drain": "drain", "headshotpro-work": "work", "clock": "clock"}


def send(port: int, models: list[str], number: int, events: int, sent: Synchronized[int]) -> None:
    """Send so many events over one connection."""
    rng = Random(number)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        reader = connection.makefile("rb")
        for begin in range(0, events, PIPELINED):
            bodies = [
                event_body(rng.choice(models), event_id=f"evt_{number}_{begin + place}", status=rng.choice(STATUSES))
                for place in range(PIPELINED)
            ]
            connection.sendall(b"".join(request(body) for body in bodies))
            for _ in bodies:
                accepted(reader)
            with sent.get_lock():
                sent.value += PIPELINED


def request(body: bytes) -> bytes:
    """A delivery as bytes."""
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
    return (
        f"POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )


def accepted(reader: socket.SocketIO) -> None:
    """Read one answer; it has to be a 202."""
    line = reader.readline()
    assert b" 202 " in line, line
    length = 0
    while header := reader.readline().strip():
        name, _, value = header.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    reader.read(length)


def resident(folder: Path) -> dict[str, int]:
    """The largest process of each kind, in MB."""
    found: dict[str, int] = {}
    for pid, command in processes_in(folder).items():
        kind = next((name for word, name in KINDS.items() if word in command), None)
        if kind:
            kilobytes = int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])
            found[kind] = max(found.get(kind, 0), kilobytes // 1024)
    return found


def report(system: System, valkey: Valkey, sent: int) -> str:
    """One line."""
    with connect_redis(valkey.url) as client:
        memory = client.info("memory")
        waiting = inbox.Inbox(client).depth().events
    redis = f"redis {memory['used_memory'] // 1_000_000} MB used, {memory['used_memory_rss'] // 1_000_000} resident"
    own = ", ".join(f"{kind} {megabytes}" for kind, megabytes in sorted(resident(system.folder).items()))
    return f"{sent:>9} sent  {waiting:>6} waiting  MB: {own}; {redis}"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=100_000, help="between two lines")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    (folder / "processes").mkdir()
    with (
        Postgres.start(folder / "postgres", durable=False) as postgres,
        Valkey.start(folder / "valkey", sync="everysec") as valkey,
        System(
            folder / "processes",
            DATABASE_URL=postgres.url,
            REDIS_URL=valkey.url,
            WEB_CONCURRENCY="2",
            LOG_LEVEL="warning",
        ) as system,
    ):
        migrate(postgres.url)
        system.start_all()
        models = [new_id() for _ in range(MODELS)]
        sent: Synchronized[int] = multiprocessing.Value("q", 0)
        share = given.events // SENDERS
        senders = [
            multiprocessing.Process(target=send, args=(system.port, models, number, share, sent), daemon=True)
            for number in range(SENDERS)
        ]
        began = time.monotonic()
        for sender in senders:
            sender.start()
        told = -1
        while any(sender.is_alive() for sender in senders):
            if sent.value // given.every > told:
                told = sent.value // given.every
                print(report(system, valkey, sent.value), flush=True)
            time.sleep(0.5)
        with connect_redis(valkey.url) as client:
            assert eventually(lambda: inbox.Inbox(client).depth().events == 0, 600)
        (kept,) = rows(postgres.url, "select count(*) as number from headshotpro.webhook_events")
        print(report(system, valkey, sent.value))
        print(f"{kept['number']} events kept, in {time.monotonic() - began:.0f} s")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
