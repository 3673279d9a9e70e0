"""The vendor's webhook sender: signs, delivers and tries again; its switches let it lose, repeat or delay."""

from __future__ import annotations

import hashlib
import heapq
import hmac
from typing import TYPE_CHECKING

import gevent.event
import gevent.pool
import msgspec
import urllib3

from service.local.sandbox.events import bare_body, full_body

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from service.local.sandbox.account import Account
    from service.local.sandbox.events import VendorEvent
    from service.local.sandbox.model import Clock
    from service.local.sandbox.switches import Switches

# Before each try; the second, third and fourth follow 5 minutes, 15 minutes and an hour after the one before.
RETRY_DELAYS_MS = (0, 300_000, 900_000, 3_600_000)
MAX_CONCURRENT = 16
TIMEOUT = urllib3.Timeout(connect=5, read=10)


class VendorDelivery(msgspec.Struct, kw_only=True):
    """An event on its way: up to four requests with the same body.

    Attributes:
        number: counts up; no two are alike.
        due: when the next try is to be made, in milliseconds.
        stamp: Unix seconds that were signed at the first try, or that a test demanded; None before.
    """

    number: int
    body: str
    due: int
    tries: int = 0
    stamp: int | None = None


class Counts(msgspec.Struct):
    """Since the start. `sent` counts requests, `refused` those not acknowledged; the others count deliveries."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    given_up: int = 0
    lost: int = 0


class VendorSender:
    """Sends what is due, up to 16 at a time (`hands`) and in no promised order."""

    def __init__(self, account: Account, switches: Switches, rng: Random, clock: Clock) -> None:
        self.counts = Counts()
        self.waiting: dict[int, VendorDelivery] = {}
        # Changes that the kept state does not have yet; None is a delivery that is finished.
        self.unsaved: dict[int, VendorDelivery | None] = {}
        self._account = account
        self._switches = switches
        self._rng = rng
        self._clock = clock
        self._agenda: list[tuple[int, int]] = []
        self._last = 0
        self._woken = gevent.event.Event()
        self.hands = gevent.pool.Pool(MAX_CONCURRENT)
        self._http = urllib3.PoolManager(maxsize=MAX_CONCURRENT, retries=False, timeout=TIMEOUT)

    def load(self, deliveries: Iterable[VendorDelivery]) -> None:
        """Take over what the last process had still to send."""
        for delivery in deliveries:
            self._schedule(delivery)

    def queue(self, events: Iterable[VendorEvent]) -> None:
        """Send events, with what the switches loss, duplicates and reorder make of it."""
        for event in events if self._account.webhook_url else ():
            if self._rng.random() < self._switches.loss:
                self.counts.lost += 1
                continue
            body = self._body(event)
            for _ in range(2 if self._rng.random() < self._switches.duplicates else 1):
                self.send(body, after=self._rng.uniform(0, self._switches.reorder))

    def send(self, body: str, *, after: float = 0.0, stamp: int | None = None) -> None:
        """Send a body after a delay in seconds, signed for this timestamp (by default that of the try)."""
        self._schedule(
            VendorDelivery(number=self._last + 1, body=body, due=self._clock() + int(after * 1000), stamp=stamp)
        )

    def run(self) -> None:
        """Send what becomes due, for ever."""
        while True:
            self._woken.clear()
            while self._agenda and self._agenda[0][0] <= self._clock():
                # Waits while all hands are busy.
                self.hands.spawn(self._try, self.waiting[heapq.heappop(self._agenda)[1]])
            pause = (self._agenda[0][0] - self._clock()) / 1000 if self._agenda else None
            self._woken.wait(pause if pause is None else max(0.0, pause))

    def _schedule(self, delivery: VendorDelivery) -> None:
        self._last = max(self._last, delivery.number)
        self.waiting[delivery.number] = self.unsaved[delivery.number] = delivery
        heapq.heappush(self._agenda, (delivery.due, delivery.number))
        self._woken.set()

    def _body(self, event: VendorEvent) -> str:
        form = self._switches.webhook_form
        if form == "mixed":
            form = self._rng.choice(("full", "bare"))
        return full_body(event) if form == "full" else bare_body(event)

    def _try(self, delivery: VendorDelivery) -> None:
        now = self._clock()
        first = delivery.stamp if self._switches.retry_signing == "first" or delivery.tries == 0 else None
        stamp = first or now // 1000
        delivery.tries += 1
        delivery.stamp = delivery.stamp or stamp
        self.counts.sent += 1
        if self._is_acknowledged(delivery.body.encode(), stamp):
            self.counts.acknowledged += 1
            self._forget(delivery)
            return
        self.counts.refused += 1
        if delivery.tries == len(RETRY_DELAYS_MS):
            self.counts.given_up += 1
            self._forget(delivery)
            return
        delivery.due = self._clock() + int(RETRY_DELAYS_MS[delivery.tries] / self._switches.speed)
        self._schedule(delivery)

    def _forget(self, delivery: VendorDelivery) -> None:
        del self.waiting[delivery.number]
        self.unsaved[delivery.number] = None

    def _is_acknowledged(self, body: bytes, stamp: int) -> bool:
        """One request: any 2xx acknowledges. A new connection each, for one that was kept may be closed by now."""
        headers = {
            "Content-Type": "application/json",
            "Connection": "close",
            "User-Agent": "HeadshotPro-Webhooks",
            "X-HeadshotPro-Signature": f"sha256={signature(self._account.webhook_secret, stamp, body)}",
            "X-HeadshotPro-Timestamp": str(stamp),
        }
        try:
            response = self._http.request(
                "POST", self._account.webhook_url or "", body=body, headers=headers, redirect=False
            )
        except urllib3.exceptions.HTTPError:
            return False
        return 200 <= response.status < 300


def signature(secret: str, stamp: int, body: bytes) -> str:
    """HMAC-SHA256 over `{timestamp}.{raw body}`, keyed with the secret as text; hex digits."""
    return hmac.new(secret.encode(), b"%d." % stamp + body, hashlib.sha256).hexdigest()
