"""One sandbox put together: the vendor, its life, its sender, its switches and what is kept of them."""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from service.local.sandbox.account import found_organization, open_account
from service.local.sandbox.hostile import Hostility
from service.local.sandbox.life import Life
from service.local.sandbox.people import population
from service.local.sandbox.rate import Window
from service.local.sandbox.sender import Sender
from service.local.sandbox.state import Keep, Kept
from service.local.sandbox.vendor import Vendor

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.sandbox.switches import Beginning, Switches


class Sandbox:
    """The parts, and the one step that keeps them in line: `settle`.

    Everything runs in one thread, in greenlets that only give way where they wait for a socket or sleep. So a change
    and its `settle` are one step to everybody else, and there are no locks.

    Args:
        kept: what was kept or newly made: account, models, deliveries.
        switches: may be turned later.
        keep: where changes are written; None keeps nothing.
    """

    def __init__(self, kept: Kept, switches: Switches, keep: Keep | None) -> None:
        self.account = kept.account
        self.account.starts += 1
        self.switches = switches
        self.vendor = Vendor(self.account, switches, self.chance("vendor"), self.clock)
        self.vendor.load(kept.models)
        self.sender = Sender(self.account, switches, self.chance("sender"), self.clock)
        self.sender.load(kept.deliveries)
        self.life = Life(self.vendor, switches, self.chance("life"), self.clock)
        self.hostility = Hostility(switches, self.chance("hostility"))
        self.window = Window(switches)
        # Answers by method, route and status; status 0 is a connection dropped on purpose.
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.connections = 0
        self._keep = keep

    @property
    def has_state_file(self) -> bool:
        """Whether its state outlives the process."""
        return self._keep is not None

    def clock(self) -> int:
        """The vendor's time in milliseconds: this machine's, off by the switch `skew`."""
        return time.time_ns() // 1_000_000 + int(self.switches.skew * 1000)

    def chance(self, part: str) -> Random:
        """A source of chance for one part: the same for the same seed, another after each restart."""
        return Random(f"{self.account.seed}:{self.account.starts}:{part}")

    def settle(self) -> None:
        """Hand the events of a change to the sender, and keep it all before anybody can see it."""
        events, self.vendor.events = self.vendor.events, []
        self.sender.queue(events)
        if self._keep is not None:
            self._keep.write(self.account, self.vendor.touched, self.sender.touched)
        self.vendor.touched.clear()
        self.sender.touched.clear()

    def turn(self, changes: dict[str, Any]) -> None:
        """Turn some switches.

        Raises:
            SettingsError: one does not exist, or cannot take its value; none was turned.
        """
        self.switches.turn(changes)
        self.vendor.listing.rebuild()

    def close(self) -> None:
        """Write what is left and give the state file back."""
        self.settle()
        if self._keep is not None:
            self._keep.close()


def open_sandbox(switches: Switches, beginning: Beginning, state: Path | None = None) -> Sandbox:
    """The sandbox of a state file, or a new one. A key, secret or URL that is given overrides the kept one.

    Raises:
        EmbeddedError, SettingsError: the state file cannot be used.
    """
    keep = None if state is None else Keep(state)
    kept = keep.load() if keep else None
    is_new = kept is None
    if kept is None:
        kept = _found(beginning, switches.speed)
    account = kept.account
    account.api_key = beginning.api_key or account.api_key
    account.webhook_secret = beginning.webhook_secret or account.webhook_secret
    account.webhook_url = beginning.webhook_url or account.webhook_url
    sandbox = Sandbox(kept, switches, keep)
    if is_new:
        sandbox.vendor.touched.update(sandbox.vendor.models)
    sandbox.settle()
    return sandbox


def _found(beginning: Beginning, speed: float) -> Kept:
    rng = Random(beginning.seed)
    organization = found_organization(rng)
    account = open_account(organization, seed=beginning.seed, credit=beginning.credits)
    now = time.time_ns() // 1_000_000
    return Kept(account, population(beginning.models, organization, rng, now=now, speed=speed), [])
