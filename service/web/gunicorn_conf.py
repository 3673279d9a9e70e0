"""gunicorn's settings; `headshot-mirror web` starts it with them (`service.web.start`).

gevent workers, because the endpoint has to bear hundreds of slow clients without a proxy in front: of the servers that
were measured, it is one of the two that served all other clients meanwhile, and it stops gracefully.

Why: `docs/decisions/0002-the-web-server.md`.
"""

# gunicorn takes every public name of this module for a setting of its own, hence the underscores.
import os as _os
import signal as _signal

from service.config import load as _load
from service.web import REQUIRED_SETTINGS as _REQUIRED_SETTINGS
from service.web.heartbeat import WebHeartbeat as _WebHeartbeat

_settings = _load(_REQUIRED_SETTINGS)

wsgi_app = "service.web:create_app()"
bind = _settings.web_url.removeprefix("http://")
workers = _settings.web_concurrency
worker_class = "service.web.gunicorn_worker.FairGeventWorker"
worker_connections = 1000
# Workers that stop give their requests this long; the whole process has to stop within ten seconds.
graceful_timeout = 7
timeout = 60
# Behind a proxy it has to be longer than the proxy's own, or a request may arrive on a connection that is closing.
keepalive = _settings.keepalive_seconds
backlog = 2048
# A request line and headers need no more; what is larger is refused before it is kept.
limit_request_line = 4094
limit_request_field_size = 4094
# By default a proxy on the same machine may set SCRIPT_NAME, and so may a client whose headers it passes on. The path
# that the proxy has checked would lose its beginning here: `/webhooks/metrics` would be `/metrics`.
forwarder_headers = ""
proc_name = "headshot-mirror-web"
control_socket_disable = True
loglevel = "warning"


def post_fork(_server: object, _worker: object) -> None:
    """Let a worker end at once on a signal that comes before gunicorn's own handlers.

    Those of its master, which it begins with, only queue a signal: web would wait for that worker until
    `graceful_timeout`.
    """
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT):
        _signal.signal(number, lambda *_: _os._exit(0))


# Before the fork, so that all workers share it.
_heartbeat = _WebHeartbeat(_settings.postgres_url)
post_worker_init = _heartbeat.start_in_worker
worker_exit = _heartbeat.end_in_worker
on_exit = _heartbeat.end_in_master
