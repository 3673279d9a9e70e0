"""Receivers: the URLs of ALERT_URLS, reached through Apprise.

Apprise is imported when it is needed: it takes 0.4 s and much memory. It neither retries nor, by itself, gives
up on a receiver that responds a byte at a time; the outbox does the one, the timeout given here the other.
"""

from __future__ import annotations

import hashlib
import re
import sys
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from service import config
from service.errors import SettingsError

if TYPE_CHECKING:
    from service.alerts.notification import Message
    from service.config import Settings

# Apprise waits 4 s (e-mail: 15 s) for a connection and as long for a response; both can be set in a URL, `?cto=` and
# `?rto=`. This is for all of it, shorter than the outbox's lease.
SEND_TIMEOUT_SECONDS = 30.0
_MAX_REASON_LENGTH = 200
# Parts of a URL that are no secret, and would make an error message useless where they were blanked.
_SHORTEST_SECRET = 4


class SendResult(NamedTuple):
    """The result of a delivery: whether the receiver took the message, and if not, why."""

    taken: bool
    reason: str


class Receiver:
    """One URL of ALERT_URLS.

    Attributes:
        digest: represents the URL in the database.
        name: the URL's scheme and host as Apprise shows them, without its secrets: a path may be one, and Apprise
            shows that of a plain webhook.
    """

    def __init__(self, url: str) -> None:
        """Check a URL.

        Raises:
            SettingsError: Apprise does not understand it.
        """
        from apprise import Apprise  # noqa: PLC0415 - see the top

        # A space is where something that is no URL was taken for the end of the URL before.
        plugin = None if re.search(r"\s", url) else Apprise.instantiate(url)
        if plugin is None:
            raise SettingsError("ALERT_URLS is malformed: Apprise does not understand one of its URLs")
        self.digest = hashlib.sha256(url.encode()).hexdigest()[:24]
        scheme, _, rest = str(plugin.url(privacy=True)).partition("://")
        self._host = re.split(r"[/?]", rest, maxsplit=1)[0].rpartition("@")[2]
        self.name = f"{scheme}://{self._host}"
        self._url = url
        # It renders Markdown in what it is sent as text.
        self._wants_markdown = plugin.service_name == "Discord"

    def __repr__(self) -> str:
        """Hides the URL."""
        return f"Receiver({self.digest})"

    def send(self, message: Message, seconds: float = SEND_TIMEOUT_SECONDS) -> SendResult:
        """Send a message as plain text and wait for what comes back, no longer than `seconds`.

        Apprise turns it into each receiver's own format, so that nothing in a title becomes markup there.
        The plugin is made anew each time: one that is kept holds the next message back for seconds.
        """
        from apprise import Apprise, AppriseResultStatus, NotifyFormat, NotifyType  # noqa: PLC0415 - see the top
        from apprise.conversion import text_to_markdown  # noqa: PLC0415

        apprise = Apprise()
        apprise.add(self._url)
        body, title = message.body, message.title
        if self._wants_markdown:
            body, title = text_to_markdown(body), text_to_markdown(title)
        try:
            result = apprise.notify(
                body, title, NotifyType(message.tone), body_format=NotifyFormat.TEXT, timeout=seconds
            )
        except Exception as error:  # noqa: BLE001 - a fault of one of its many plugins is a receiver that takes nothing
            return SendResult(taken=False, reason=type(error).__name__)
        if result:
            return SendResult(taken=True, reason="sent")
        # Secrets go before it is cut: the first half of one is a secret, too.
        log_messages = [entry.message for entry in result.logs()]
        if not log_messages or result.status == AppriseResultStatus.TIMEOUT:
            log_messages = [f"no response within {seconds:g} s"]
        return SendResult(
            taken=False, reason=self._redact(" ".join(" ".join(log_messages).split()))[:_MAX_REASON_LENGTH]
        )

    def _redact(self, reason: str) -> str:
        """An error message of Apprise without the parts of the URL that it may repeat, but for the host."""
        parts = {unquote(part) for part in re.split(r"[/:@?&=,]+", self._url)} - set(self._host.split(":"))
        for part in sorted(parts, key=len, reverse=True):
            if len(part) >= _SHORTEST_SECRET:
                reason = reason.replace(part, "…")
        return reason


def from_settings(settings: Settings) -> list[Receiver]:
    """The receivers of ALERT_URLS, none where it is not set; raises what `parse` does."""
    return parse(settings.alert_urls) if settings.alert_urls else []


def parse(urls: str) -> list[Receiver]:
    """The receivers of comma-separated URLs, each once.

    Raises:
        SettingsError: one of the URLs is none of Apprise's; the message does not repeat it.
    """
    from apprise.utils.parse import parse_urls  # noqa: PLC0415 - see the top

    # Some of Apprise's URLs hold commas themselves.
    given = {receiver.digest: receiver for receiver in map(Receiver, parse_urls(urls))}
    return list(given.values())


if __name__ == "__main__":
    # The check of a process that must not load Apprise itself.
    try:
        from_settings(config.load())
    except SettingsError as wrong:
        sys.exit(str(wrong))
    except Exception as error:  # noqa: BLE001 - whatever Apprise has come upon; its message may hold a URL
        sys.exit(f"ALERT_URLS cannot be checked: {type(error).__name__}")
