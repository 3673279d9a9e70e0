"""Memory of every process while a million events go through: `python -m bench.memory --events 1000000`.

After each part of the events is applied, a line has the resident MB of each process, and its share of what processes
have in common (PSS). The upstream is unreachable, so that its requests fail all the time.
"""

import time
from contextlib import ExitStack
from datetime import UTC, datetime

import click
import psutil

from bench.deliveries import Organization
from bench.load import send
from bench.processes import pss_mb
from bench.setup import kind_of, servers
from service.broker.inbox import Delivery, Inbox
from tests.support.processes import eventually, processes_in
from tests.support.system import System

PART = 10_000


def memory_of(system: System) -> list[str]:
    """Each process of the product: its kind, resident MB, and PSS in MB."""
    found = []
    for pid, command in processes_in(system.folder).items():
        if kind := kind_of(command):
            found.append(f"{kind} {psutil.Process(pid).memory_info().rss / 2**20:.2f} ({pss_mb(pid):.1f})")
    return sorted(found)


@click.command()
@click.option("--events", default=1_000_000)
@click.option("--every", default=100_000, help="Events between two lines.")
@click.option("--direct", is_flag=True, help="Put events into Redis without web, which takes most of the time.")
def main(events: int, every: int, direct: bool) -> None:
    with servers(sync="everysec", durable=False) as place, ExitStack() as stack:
        system = place.started(stack, "worker", "clock", "web")
        organization, began = Organization(5_000), time.monotonic()
        for sent in range(0, events + 1, every):
            # A signature holds for five minutes.
            for _ in range(0, every if sent else 0, PART):
                bodies = organization.stream(PART)
                if direct:
                    now = datetime.now(UTC)
                    Inbox(place.redis).put(*(Delivery.arrived(body, int(now.timestamp()), now) for body in bodies))
                else:
                    send(system.port, bodies)
                assert eventually(lambda: Inbox(place.redis).depth().events == 0, 600), system.logs()
            redis = place.redis.info("memory")["used_memory"] / 1_000_000
            held = f"{', '.join(memory_of(system))}, Redis {redis:.1f}"
            print(f"{sent:>9} events, {time.monotonic() - began:.0f} s: {held}", flush=True)


if __name__ == "__main__":
    main()
