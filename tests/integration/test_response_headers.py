"""Headers of everything that web answers: no page is framed, sniffed, or kept by a cache with what it shows."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import subprocess
import sys
from signal import SIGTERM
from typing import TYPE_CHECKING

import pytest
import urllib3

from service.config import environment
from service.parent_death import die_with_parent
from tests.support.api import KEY, MODELS, Api
from tests.support.ports import free_port
from tests.support.processes import eventually
from tests.support.system import SECRET, WEBHOOK_PATH
from tests.support.webhook_endpoint import client_of, post

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mirror import Mirror

PAGES = (
    "/livez",
    "/readyz",
    "/metrics",
    "/runbook",
    "/api/docs",
    "/api/openapi.json",
    "/nowhere",
    MODELS,
    f"{MODELS}/%00",
)


def test_every_response_says_what_a_browser_may_do_with_it(mirrored: Mirror) -> None:
    api = Api.of(mirrored)
    for path in PAGES:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            headers = api.app.open(path, method=method, headers={"Authorization": f"Bearer {KEY}"}).headers
            assert headers["X-Content-Type-Options"] == "nosniff", (method, path)
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Content-Security-Policy"].startswith("default-src 'none'; base-uri 'none'")
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert headers["Cache-Control"] in ("no-store", "private, no-cache")


def test_responses_allow_no_shared_cache_and_etags_still_work(mirrored: Mirror) -> None:
    api = Api.of(mirrored)
    page = api.call("GET", "?limit=1")
    assert page.headers["Cache-Control"] == "private, no-cache"
    same = api.call("GET", "?limit=1", If_None_Match=page.headers["ETag"])
    assert (same.status_code, same.headers["Cache-Control"]) == (304, "private, no-cache")
    fresh = api.call("GET", f"/{api.ids('?limit=1')[0]}?fresh=true")
    assert "signedUrl" in fresh.text
    assert fresh.headers["Cache-Control"] == "no-store"
    for key in (None, "wrong"):
        refused = api.call("GET", key=key)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("path", ["/api/v2//organization/models", "//api/docs", f"{MODELS}//", "/livez/"])
def test_odd_slashes_redirect_to_no_host_of_the_request(path: str, folder: Path) -> None:
    answer = client_of(folder).get(path, headers={"Host": "evil.example", "Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 404
    assert "Location" not in answer.headers
    assert "evil.example" not in answer.text


def test_docs_page_may_use_its_own_style_and_nothing_else(folder: Path) -> None:
    answer = client_of(folder).get("/api/docs")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.headers["Content-Security-Policy"].endswith(f"style-src 'sha256-{digest}'")
    # Nothing on it needs more.
    assert not re.search(r"<script|style=|\bon\w+=|<link|<img", answer.text)


def test_responses_of_the_webhook_endpoint_are_not_sniffed(folder: Path, redis_url: str) -> None:
    endpoint = client_of(folder, REDIS_URL=redis_url)
    for answer in (post(endpoint, b"{}"), endpoint.get(WEBHOOK_PATH), endpoint.post(WEBHOOK_PATH, data=b"<html>")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("address", "family"), [("127.0.0.1", socket.AF_INET), pytest.param("::1", socket.AF_INET6, marks=pytest.mark.long)]
)
def test_web_listens_on_the_one_address_that_is_set(
    folder: Path, redis_url: str, database_url: str, address: str, family: socket.AddressFamily
) -> None:
    try:
        with socket.socket(family) as trial:
            trial.bind((address, 0))
    except OSError:
        pytest.skip(f"this machine has no {address}")
    port = free_port()
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "HEADSHOTPRO_WEBHOOK_SECRET": SECRET,
        "PORT": str(port),
        "WEB_BIND": address,
        "WEB_CONCURRENCY": "1",
    }
    command = die_with_parent([sys.executable, "-m", "service.cli", "web"], SIGTERM)
    host = f"[{address}]" if ":" in address else address
    http = urllib3.PoolManager(timeout=2, retries=False)

    def answers() -> bool:
        try:
            return http.request("GET", f"http://{host}:{port}/livez").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    with subprocess.Popen(command, cwd=folder, env=environment(**settings), stderr=subprocess.DEVNULL) as web:
        try:
            assert eventually(answers)
            # Nobody listens on the other addresses of this machine.
            for other, kind in (("127.0.0.2", socket.AF_INET), ("127.0.0.1", socket.AF_INET)):
                if other != address:
                    with socket.socket(kind) as client:
                        assert client.connect_ex((other, port)) != 0
        finally:
            web.terminate()
            web.wait(15)
