"""`headshot-mirror webhook`: whether a delivery gets through, from the public URL to the table."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from service.cli.opening import load_settings
from service.cli.output import json_option, print_json, say
from service.errors import MirrorError, SettingsError

if TYPE_CHECKING:
    from service.config import Settings

PATH = "/webhooks/headshotpro"
REQUIRED_SETTINGS = ("DATABASE_URL", "HEADSHOTPRO_WEBHOOK_SECRET")
RESPONSE_SECONDS = 15.0
APPLY_SECONDS = 30.0
POLL_SECONDS = 0.1

ADVICE = {
    401: "web accepts another secret, or its clock is off: `headshot-mirror doctor` checks both",
    404: f"web serves no such path: a webhook URL has to end in {PATH}",
    503: "web can store no delivery, or has no webhook secret: `headshot-mirror doctor`",
}


@click.group(epilog="Example: headshot-mirror webhook test")
def webhook() -> None:
    """Send a signed test delivery and follow it."""


@webhook.command(epilog="Example: headshot-mirror webhook test --url https://mirror.example.com/webhooks/headshotpro")
@click.option("--url", help=f"The webhook URL, or a base URL, to which {PATH} is appended; default: PUBLIC_URL.")
@json_option
def test(url: str | None, *, as_json: bool) -> None:
    """Send a signed test delivery, as HeadshotPro would, and follow it into the table.

    It reports an event that is about no model, so it changes no model; its row in webhook_events is `ignored`. Exit
    status 1 when the delivery was not accepted, or its event did not reach the table within 30 s.
    """
    settings = load_settings(REQUIRED_SETTINGS)
    target = _target(settings, url)
    found: dict[str, Any] = {"url": target, "event_id": f"evt_test_{secrets.token_hex(8)}"}
    began = time.monotonic()
    found |= _deliver(settings, target, found["event_id"])
    say(f"{target} responded {found['response']} after {found['response_seconds']} s.", err=as_json)
    found |= {"event_status": None, "event_seconds": None}
    if found["response"] == 202:
        found |= _follow(found["event_id"], began)
    if as_json:
        print_json(found)
    if found["response"] != 202:
        advice = ADVICE.get(found["response"], "is it the URL of web's webhook endpoint?")
        raise MirrorError(f"{target} did not accept the delivery: {advice}")
    if found["event_status"] is None:
        raise MirrorError(
            f"the event {found['event_id']} was accepted and is not applied after {APPLY_SECONDS:.0f} s: "
            "`headshot-mirror status` says whether a worker runs"
        )
    as_it_should = ", as it should be: it is about no model" if found["event_status"] == "ignored" else ""
    say(
        f"Event {found['event_id']} was in the table after {found['event_seconds']} s; its status is "
        f"`{found['event_status']}`{as_it_should}.",
        err=as_json,
    )
    say("This does not show whether HeadshotPro signs with the same secret.", err=as_json)


def _target(settings: Settings, url: str | None) -> str:
    """The URL of the webhook endpoint.

    Raises:
        SettingsError: it is not known.
    """
    loopback = settings.web_bind is not None and ip_address(settings.web_address).is_loopback
    given = url or settings.public_url or (settings.web_url if loopback else None)
    if given is None:
        raise SettingsError("PUBLIC_URL is missing: set it to where HeadshotPro reaches web, or give --url")
    parts = urlsplit(given)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError("--url is malformed: it begins with http:// or https:// and names a host")
    has_path = parts.path.rstrip("/").endswith(PATH)
    return given if has_path else f"{given.rstrip('/')}{PATH}"


def _deliver(settings: Settings, url: str, event_id: str) -> dict[str, Any]:
    """Send the delivery: the status of the response, and the seconds that it took."""
    from service.http_client import HttpClient, RequestFailed
    from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign

    now = datetime.now(UTC)
    document = {"id": event_id, "event": "webhook.test", "createdAt": now.isoformat(), "objectType": "test"}
    body, timestamp = json.dumps(document).encode(), int(now.timestamp())
    headers = {
        "Content-Type": "application/json",
        SIGNATURE_HEADER: sign(settings.webhook_secrets[0], timestamp, body),
        TIMESTAMP_HEADER: str(timestamp),
    }
    client = HttpClient(
        deadline=RESPONSE_SECONDS, connect_timeout=5.0, max_body_bytes=65_536, proxy=settings.proxy_for(url)
    )
    began = time.monotonic()
    try:
        status = client.send("POST", url, headers, body).status
    except RequestFailed as error:
        raise MirrorError(f"{url} cannot be reached from here: {error}") from None
    finally:
        client.close()
    return {"response": status, "response_seconds": round(time.monotonic() - began, 2)}


def _follow(event_id: str, began: float) -> dict[str, Any]:
    """Wait for the event's row: its status, and the seconds since `began` (monotonic); empty where it does not come."""
    from service.cli.opening import open_engine
    from service.storage import events
    from service.storage.database import transaction

    engine = open_engine()
    while (elapsed := time.monotonic() - began) < APPLY_SECONDS:
        with transaction(engine) as connection:
            row = events.one(connection, event_id)
        if row:
            return {"event_status": row["status"], "event_seconds": round(elapsed, 2)}
        time.sleep(POLL_SECONDS)
    return {}
