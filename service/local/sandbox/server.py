"""The sandbox as a process: one gevent server, one sender, one ticking clock, and a quick end."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import click
import gevent
import gevent.event
from flask import Flask
from gevent.pywsgi import WSGIHandler, WSGIServer

from service.errors import LocalServerError
from service.local.sandbox import api, control

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from service.local.sandbox.core import Sandbox

# How often lives move on, and how often a child looks for its parent, in seconds.
TICK = 0.02
PARENT_CHECK = 0.5


class SandboxServer:
    """The sandbox that is served now, with its sender and its ticking clock; a WSGI application.

    Args:
        over: gets the exception of a part that breaks.
    """

    def __init__(self, sandbox: Sandbox, over: gevent.event.AsyncResult[None]) -> None:
        self._over = over
        # One for all sandboxes: to make another takes longer than most tests do.
        self._app = Flask(__name__, static_folder=None)
        self._app.register_blueprint(api.VendorApi().blueprint())
        self._app.register_blueprint(control.Control(self.replace).blueprint())
        self._show(sandbox)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[api.SERVED] = self.sandbox
        return self._app(environ, start_response)

    def replace(self, sandbox: Sandbox) -> None:
        """Serve another sandbox; requests that are in flight still end at the one before."""
        self.clear()
        self._show(sandbox)

    def clear(self) -> None:
        """End sender and clock, and every request that is under way."""
        gevent.killall(self._parts)
        self.sandbox.sender.hands.kill()

    def _show(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._parts = [gevent.spawn(sandbox.sender.run), gevent.spawn(_tick, sandbox)]
        for part in self._parts:
            part.link_exception(lambda broken: self._over.set_exception(broken.exception))


def serve(sandbox: Sandbox, host: str, port: int, *, with_parent: bool) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent has ended; the state is written before this returns.

    Prints one line of JSON with `url`, `api_key` and `webhook_secret` on stdout as soon as connections are accepted.

    Raises:
        LocalServerError: the port is taken. An error in a part of the sandbox ends it and is raised as it is.
    """
    over: gevent.event.AsyncResult[None] = gevent.event.AsyncResult()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, over.set)
    app = SandboxServer(sandbox, over)
    server = _listen(app, host, port)
    if with_parent:
        gevent.spawn(_stop_with_parent, os.getppid(), over)
    url = f"http://{host}:{server.server_port}{api.PREFIX}"
    account = sandbox.account
    click.echo(json.dumps({"url": url, "api_key": account.api_key, "webhook_secret": account.webhook_secret}))
    try:
        over.get()
    finally:
        server.stop(timeout=0)
        app.clear()
        app.sandbox.close()


def _listen(app: SandboxServer, host: str, port: int) -> WSGIServer:
    def connected(connection: socket.socket, *rest: Any) -> WSGIHandler:
        # pywsgi writes head and body apart: without this the body waits for the head's acknowledgement.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app.sandbox.connections += 1
        return WSGIHandler(connection, *rest)

    server = WSGIServer(
        (host, port),
        app,
        backlog=1024,
        log=None,
        handler_class=connected,
        # Named here, or else pywsgi asks the name service, which may take seconds.
        environ={"SERVER_NAME": host},
    )
    try:
        server.start()
    except OSError as error:
        raise LocalServerError(f"the sandbox cannot listen on {host}:{port}: {error.strerror}") from None
    return server


def _tick(sandbox: Sandbox) -> None:
    while True:
        sandbox.life.advance()
        sandbox.flush()
        gevent.sleep(TICK)


def _stop_with_parent(parent: int, over: gevent.event.AsyncResult[None]) -> None:
    """Polling works on every system, and for any thread of the parent."""
    while os.getppid() == parent:
        gevent.sleep(PARENT_CHECK)
    over.set()
