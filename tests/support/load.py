"""A vendor that delivers all the time, from several threads, to several web processes in turn."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import urllib3

from tests.support.processes import eventually
from tests.support.system import WEBHOOK_PATH, event_body, new_id, signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAUSE_SECONDS = 0.08


class RefusedDelivery(NamedTuple):
    """A delivery that was not accepted, to be sent again as the vendor would.

    Attributes:
        body: its body.
        headers: its headers as they were sent the first time.
    """

    body: bytes
    headers: dict[str, str]


class DeliveryLoad:
    """Deliveries without a pause, each to one web process; where its connection is refused, to the next one.

    A delivery whose connection is reset is sent once more, as nginx does by `proxy_next_upstream` (deploy/nginx.conf).

    Attributes:
        accepted: ids of the events that were answered 202.
        refused: deliveries that were answered otherwise.
        answers: how many deliveries ended how: a status, or the name of an error.
        resets: how many connections were reset.
        secret: what deliveries are signed with from now on.

    Args:
        urls: of the web processes.
        secret: as the attribute.
        pause: seconds between a response and the next delivery of a thread.
    """

    def __init__(self, urls: Sequence[str], secret: str, *, pause: float = PAUSE_SECONDS) -> None:
        self.accepted: list[str] = []
        self.refused: list[RefusedDelivery] = []
        self.answers: Counter[int | str] = Counter()
        self.resets = 0
        self.secret = secret
        self._urls = urls
        self._pause = pause
        self._enough = threading.Event()
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    @contextmanager
    def running(self, *, threads: int) -> Iterator[None]:
        """Deliver during the block; every second thread keeps its connections, the others make one a delivery."""
        workers = [threading.Thread(target=self._work, args=(number % 2 == 0,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            self._enough.set()
            for worker in workers:
                worker.join(30)

    def assert_goes_on(self) -> None:
        """Forty more deliveries are answered soon."""
        before = self.answers.total()
        assert eventually(lambda: self.answers.total() >= before + 40), self.answers

    def deliver_once(self) -> None:
        """One delivery."""
        with urllib3.PoolManager(retries=False, timeout=15) as http:
            self._deliver(http, *self._next())

    def deliver_again(self) -> None:
        """Send what was refused once more: every second one signed anew, the others with their first signature."""
        again, self.refused = self.refused, []
        with urllib3.PoolManager(retries=False, timeout=15) as http:
            for number, (body, headers) in enumerate(again):
                self._deliver(http, body, signed(body, secret=self.secret) if number % 2 else headers)

    def _work(self, keep: bool) -> None:
        with urllib3.PoolManager(retries=False, timeout=15, maxsize=1) as http:
            while not self._enough.wait(self._pause):
                body, headers = self._next()
                self._deliver(http, body, headers if keep else {**headers, "Connection": "close"})

    def _next(self) -> tuple[bytes, dict[str, str]]:
        body = event_body(new_id())
        return body, signed(body, secret=self.secret)

    def _deliver(self, http: urllib3.PoolManager, body: bytes, headers: dict[str, str]) -> None:
        answer, event = self._send(http, body, headers)
        with self._lock:
            self.answers[answer] += 1
            if answer == 202:
                self.accepted.append(event)
            else:
                self.refused.append(RefusedDelivery(body, headers))

    def _send(self, http: urllib3.PoolManager, body: bytes, headers: dict[str, str]) -> tuple[int | str, str]:
        first = next(self._numbers)
        urls = [self._urls[(first + number) % len(self._urls)] + WEBHOOK_PATH for number in range(len(self._urls))]
        may_repeat = True
        while urls:
            url = urls.pop(0)
            try:
                answer = http.request("POST", url, body=body, headers=headers)
            except urllib3.exceptions.NewConnectionError:
                continue
            except urllib3.exceptions.HTTPError as error:
                if may_repeat and was_reset(error):
                    with self._lock:
                        self.resets += 1
                    may_repeat = False
                    urls.append(url)
                    continue
                return type(error).__name__, ""
            return answer.status, answer.json().get("event", "")
        return "no process listens", ""


def was_reset(error: urllib3.exceptions.HTTPError) -> bool:
    """Whether a request failed because the server's kernel reset its connection."""
    return any(isinstance(reason, (ConnectionResetError, BrokenPipeError)) for reason in error.args)
