"""Deliveries beside 200 open consoles, in turns with none: `python -m bench.consoles [ROUNDS]`."""

import multiprocessing
import sys
import threading
import time
from contextlib import ExitStack

import urllib3

from bench.deliveries import Organization
from bench.load import send
from bench.report import alternate, ratio
from bench.setup import servers
from tests.support.console import OPERATOR
from tests.support.console_streams import StreamReader, session_cookie

CONSOLES, ASK_SECONDS, RATE, SECONDS = 200, 5.0, 100.0, 8


def watch(port: int, cookie: str, number: int) -> None:
    of, headers = ("changes", "events")[number % 2], {"Cookie": cookie, "Console-Part": "main"}
    time.sleep(ASK_SECONDS * number / CONSOLES)
    threading.Thread(target=list, args=[StreamReader(f"http://127.0.0.1:{port}", cookie, of).messages()]).start()
    while True:
        urllib3.request("GET", f"http://127.0.0.1:{port}/console/{of}", headers=headers)
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

        def p99(number: int) -> float:
            child = multiprocessing.get_context("spawn").Process(target=consoles, args=(number, *where))
            child.start()
            time.sleep(ASK_SECONDS + 2)
            taken = send(system.port, organization.stream(round(RATE * SECONDS)), RATE).times.p99
            child.kill()
            return taken

        taken = alternate({"none": lambda: p99(0), "many": lambda: p99(CONSOLES)}, int([*sys.argv, "5"][1]))
    print(f"p99 with consoles ÷ without, at most 1.25 wanted: {ratio(taken, 'many', 'none')}", taken)
