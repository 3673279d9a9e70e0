"""Memory of every process while a million events go through: `python -m bench.memory --events 1000000`.

Prints a line with the resident MB of the largest process of each kind after each part of the events is applied.
"""

import time
from contextlib import ExitStack

import click
import psutil

from bench.deliveries import Organization
from bench.load import send
from bench.setup import by_kind, servers, value
from service.broker.inbox import Inbox
from tests.support.processes import eventually


def resident_mb(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20


@click.command()
@click.option("--events", default=1_000_000)
@click.option("--every", default=50_000, help="Events between two lines.")
@click.option("--models", default=5_000, help="Models that the events are about.")
def main(events: int, every: int, models: int) -> None:
    with servers(sync="everysec", durable=False) as place, ExitStack() as stack:
        system = place.started(stack, "worker", "clock", "web")
        organization, began = Organization(models), time.monotonic()
        for sent in range(0, events + 1, every):
            if sent:
                send(system.port, organization.stream(every))
                assert eventually(lambda: Inbox(place.redis).depth().events == 0, 600), system.logs()
            redis = place.redis.info("memory")["used_memory"] / 1_000_000
            found = ", ".join(f"{kind} {mb:.2f}" for kind, mb in sorted(by_kind(system.folder, resident_mb).items()))
            print(f"{sent:>9} events, MB: {found}; Redis holds {redis:.1f}", flush=True)
        kept = value(place.postgres.url, "select count(*) from headshotpro.webhook_events")
        print(f"{kept} events kept, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
