"""Deliveries beside 200 open consoles, in turns with none: `python -m bench.consoles [ROUNDS]`.

A console asks as the page's script does while rows go on coming: every five seconds over a kept connection, with the
tag of what it shows and the last message of its stream.
"""

import multiprocessing
import sys
import threading
import time
from contextlib import ExitStack

import urllib3

from bench.deliveries import Organization
from bench.load import send
from bench.report import alternate, ratio
from bench.setup import cpu_seconds, kind_of, servers
from tests.support.console import OPERATOR
from tests.support.console_streams import StreamReader, session_cookie
from tests.support.processes import processes_in

CONSOLES, ASK_SECONDS, RATE, SECONDS = 200, 5.0, 100.0, 8


def watch(port: int, cookie: str, number: int) -> None:
    of, headers = ("changes", "events")[number % 2], {"Cookie": cookie, "Console-Part": "main"}

    def listen() -> None:
        for message in StreamReader(f"http://127.0.0.1:{port}", cookie, of).messages():
            headers["Console-Part"] = message.id or headers["Console-Part"]

    time.sleep(ASK_SECONDS * number / CONSOLES)
    threading.Thread(target=listen).start()
    kept = urllib3.HTTPConnectionPool("127.0.0.1", port)
    while True:
        shown = kept.request("GET", f"/console/{of}", headers=dict(headers))
        headers["If-None-Match"] = shown.headers.get("ETag", "")
        time.sleep(ASK_SECONDS)


def consoles(number: int, *where: object) -> None:
    for one in range(number):
        threading.Thread(target=watch, args=(*where, one)).start()


if __name__ == "__main__":
    organization = Organization(1_000, seed=3)
    with servers() as place, ExitStack() as stack:
        organization.fill(place.postgres.url)
        system = place.started(stack, "web", CONSOLE_PASSWORD=OPERATOR)
        system.start("worker")
        where = system.port, session_cookie(system.url)
        web = [pid for pid, command in processes_in(place.folder).items() if kind_of(command) == "web"]
        # Of each turn, with those to warm up.
        cpu: dict[str, list[float]] = {"none": [], "many": []}

        def p99(number: int) -> float:
            child = multiprocessing.get_context("spawn").Process(target=consoles, args=(number, *where))
            child.start()
            time.sleep(ASK_SECONDS + 2)
            before = sum(map(cpu_seconds, web))
            sent = send(system.port, organization.stream(round(RATE * SECONDS)), RATE)
            cpu["many" if number else "none"].append((sum(map(cpu_seconds, web)) - before) / sent.seconds)
            child.kill()
            return sent.times.p99

        taken = alternate({"none": lambda: p99(0), "many": lambda: p99(CONSOLES)}, int([*sys.argv, "5"][1]))
    print(f"p99 with consoles ÷ without, at most 1.25 wanted: {ratio(taken, 'many', 'none')}", taken)
    print(f"processor time of web a second, with ÷ without: {ratio(cpu, 'many', 'none')}", cpu)
