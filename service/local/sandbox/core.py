"""One sandbox put together: the vendor, its life, its sender, its switches and what is kept of them."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from service.local.sandbox.account import Account, new_organization
from service.local.sandbox.hostile import FaultInjector
from service.local.sandbox.life import LifeSimulator
from service.local.sandbox.people import PersonGenerator, population
from service.local.sandbox.rate import RateWindow
from service.local.sandbox.sender import VendorSender
from service.local.sandbox.state import StateFile, VendorState
from service.local.sandbox.vendor import Vendor

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.sandbox.switches import InitialState, Switches


class Sandbox:
    """The parts, and the one step that keeps them in line: `flush`.

    Everything runs in one thread, in greenlets that only give way where they wait for a socket or sleep. So a change
    and its `flush` are one step to every other greenlet, and need no locks.

    Args:
        state_file: where changes are written; None keeps nothing.
    """

    def __init__(self, kept: VendorState, switches: Switches, state_file: StateFile | None) -> None:
        self.account = kept.account
        self.account.starts += 1
        self.switches = switches
        self.vendor = Vendor(self.account, switches, self.random_source("vendor"), self.clock)
        self.vendor.load(kept.models)
        self.sender = VendorSender(self.account, switches, self.random_source("sender"), self.clock)
        self.sender.load(kept.deliveries)
        self.life = LifeSimulator(self.vendor, switches, self.random_source("life"), self.clock)
        self.fault_injector = FaultInjector(switches, self.random_source("hostility"))
        # Whom and what the control calls make up.
        self.control_rng = self.random_source("control")
        self.people = PersonGenerator(self.control_rng, self.account.organization.domain)
        self.window = RateWindow(switches)
        # Answers by method, route and status; status 0 is a connection dropped on purpose.
        self.responses: Counter[tuple[str, str, int]] = Counter()
        self.connections = 0
        self.state_file = state_file

    def clock(self) -> int:
        """The vendor's time in milliseconds: this machine's, off by the switch `skew`."""
        return time.time_ns() // 1_000_000 + int(self.switches.skew * 1000)

    def random_source(self, part: str) -> Random:
        """A source of chance for one part: the same for the same seed, another after each restart."""
        return Random(f"{self.account.seed}:{self.account.starts}:{part}")

    def flush(self) -> None:
        """Hand the events of a change to the sender, and store it before any reader can see it."""
        events, self.vendor.events = self.vendor.events, []
        self.sender.queue(events)
        if self.state_file is not None:
            self.state_file.write(self.account, self.vendor.unsaved, self.sender.unsaved)
        self.vendor.unsaved.clear()
        self.sender.unsaved.clear()

    def update_switches(self, changes: dict[str, Any]) -> None:
        """Turn some switches; raises what `Switches.update_switches` does."""
        self.switches.update_switches(changes)
        self.vendor.listing.rebuild()

    def close(self) -> None:
        """Write unsaved changes and release the state file."""
        self.flush()
        if self.state_file is not None:
            self.state_file.close()


def open_sandbox(switches: Switches, initial: InitialState, state: Path | None = None) -> Sandbox:
    """The sandbox of a state file, or a new one. A key, secret or URL that is given overrides the kept one.

    Raises:
        LocalServerError, SettingsError: the state file cannot be used.
    """
    state_file = None if state is None else StateFile(state)
    kept = state_file.load() if state_file else None
    is_new = kept is None
    if kept is None:
        kept = _found(initial, switches.speed)
    account = kept.account
    account.api_key = initial.api_key or account.api_key
    account.webhook_secret = initial.webhook_secret or account.webhook_secret
    account.webhook_url = initial.webhook_url or account.webhook_url
    sandbox = Sandbox(kept, switches, state_file)
    if is_new:
        sandbox.vendor.unsaved.update(sandbox.vendor.models)
    sandbox.flush()
    return sandbox


def _found(initial: InitialState, speed: float) -> VendorState:
    rng = Random(initial.seed)
    organization = new_organization(rng)
    account = Account(
        organization=organization,
        api_key=f"hsp_{secrets.token_hex(20)}",
        webhook_secret=secrets.token_hex(32),
        seed=initial.seed,
        credits=initial.credits,
    )
    now = time.time_ns() // 1_000_000
    return VendorState(account, population(initial.models, organization, rng, now=now, speed=speed), [])
