"""How long a change takes from its webhook to the request that a subscription gets, and a bare forwarder beside it.

`python -m tests.faults.subscription_latency` starts a deployment on this machine and prints one JSON line for each
phase. The forwarder passes each webhook's bytes on and does nothing else: no check, no storage, no order, no retry.
`to_row` is the part of the time until the change was recorded.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3

from service.config import force_wheels
from service.local.servers import Valkey
from service.storage import database
from service.subscriptions.commands import SubscriptionBody, SubscriptionCommands
from tests.support.acting import TESTER
from tests.support.servers import new_postgres
from tests.support.subscriber import HANG, Subscriber
from tests.support.system import System, event_body, new_id, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUBSCRIPTIONS = 50
LINE = sys.stdout.write


@contextmanager
def forwarder(target: str) -> Iterator[str]:
    """A server that posts each body to `target` and then responds."""
    pool = urllib3.PoolManager(maxsize=50, retries=False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            pool.request("POST", target, body=body, headers={"webhook-id": "none"})
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def send(url: str, rate: float, seconds: float) -> dict[str, float]:
    """Post webhooks about new models at an even rate: when each was sent, on the monotonic clock."""
    pool, sent, threads = urllib3.PoolManager(maxsize=50, retries=False), dict[str, float](), []
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        model = new_id()
        body = event_body(model, "model.created", status="waiting")
        sent[model] = time.monotonic()
        post = {"method": "POST", "url": url, "body": body, "headers": signed(body)}
        threads.append(threading.Thread(target=pool.request, kwargs=post))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return sent


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return round(cuts[49] * 1000, 1), round(cuts[98] * 1000, 1)


def measure(name: str, sent: dict[str, float], receivers: list[Subscriber], model_of: Callable[[Any], str]) -> None:
    """Wait until each receiver has got each model, and print the latencies."""
    deadline = time.monotonic() + 60
    while any(len(one.taken) < len(sent) for one in receivers) and time.monotonic() < deadline:
        time.sleep(0.05)
    got = [(model_of(request.document), request) for one in receivers for request in one.taken]
    late = [request.at - sent[model] for model, request in got if model in sent]
    p50, p99 = percentiles(late)
    figures: dict[str, float] = {"requests": len(late), "p50_ms": p50, "p99_ms": p99}
    # Both clocks are of this machine.
    ahead = time.time() - time.monotonic()
    rows = {model: request.document["timestamp"] for model, request in got if "timestamp" in request.document}
    recorded = {model: datetime.fromisoformat(at).timestamp() - ahead for model, at in rows.items()}
    until_row = [at - sent[model] for model, at in recorded.items() if model in sent]
    if until_row:
        figures["to_row_p50_ms"], figures["to_row_p99_ms"] = percentiles(until_row)
    LINE(json.dumps({"phase": name, **figures, "missing": len(sent) * len(receivers) - len(late)}) + "\n")
    for one in receivers:
        one.taken.clear()


def of_change(document: Any) -> str:
    return str(document["data"]["model_id"])


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hm-")))
        postgres = stack.enter_context(new_postgres(folder / "postgres", migrated=True, durable=True))
        valkey = stack.enter_context(Valkey.start(folder / "valkey", force_wheels=force_wheels()))
        (folder / "system").mkdir()
        urls = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url, "LOG_LEVEL": "error"}
        system = stack.enter_context(System(folder / "system", **urls))
        system.start_all()
        engine = database.connect(postgres.url)
        stack.callback(engine.dispose)
        commands = SubscriptionCommands(engine, TESTER)
        receivers = [stack.enter_context(Subscriber()) for _ in range(SUBSCRIPTIONS)]
        webhooks = f"{system.url}/webhooks/headshotpro"
        with forwarder(receivers[0].url) as bare:
            measure("bare forwarder, 100/s", send(bare, 100, 15), receivers[:1], lambda d: str(d["object"]["_id"]))
        commands.add(SubscriptionBody("s0", receivers[0].url))
        send(webhooks, 10, 3)
        time.sleep(3)
        receivers[0].taken.clear()
        measure("1 subscription, 100/s", send(webhooks, 100, 15), receivers[:1], of_change)
        for number, one in enumerate(receivers[1:], 1):
            commands.add(SubscriptionBody(f"s{number}", one.url))
        time.sleep(3)
        measure("50 subscriptions, 2/s each", send(webhooks, 2, 30), receivers, of_change)
        receivers[-1].behave = lambda _number, _request: HANG
        measure("50 subscriptions, 1 of them dead: the others", send(webhooks, 2, 30), receivers[:-1], of_change)


if __name__ == "__main__":
    main()
