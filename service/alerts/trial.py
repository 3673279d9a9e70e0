"""A test message to every receiver: in this process for the command, in one of its own for web.

Apprise takes half a second of a processor to import, and much memory: neither may be taken from deliveries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from service.alerts import notification, receivers
from service.alerts.links import Links
from service.alerts.receivers import SendResult
from service.errors import MirrorError
from service.storage.audit import FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.alerts.notification import Message
    from service.alerts.receivers import Receiver
    from service.config import Settings
    from service.storage.audit import Act

ACTION = "alerts.test"
# A person waits for it, so a receiver has less time than for an alert, and so have all of them together.
PERSON_SECONDS = 8.0
PROCESS_SECONDS = 15.0
# Of that, the start of the process and its end take this.
START_SECONDS = 4.0

Result = dict[str, Any]


def message_for(settings: Settings) -> Message:
    """Alerts that are made up, in the form and with the links of real ones."""
    return notification.build_test_message(
        datetime.now(UTC), Links.from_settings(settings), show_names=settings.alert_show_names
    )


def send_to_each(
    targets: Sequence[Receiver],
    message: Message,
    seconds: float = receivers.SEND_TIMEOUT_SECONDS,
    in_all: float = inf,
) -> Iterator[Result]:
    """Send a message to each receiver: `place`, `receiver`, `taken` and `answer` of each, without secrets.

    One after the other: Apprise collects the log lines of a whole process, and they may hold the URL of another one.

    Args:
        targets: the receivers.
        message: the message.
        seconds: how long each of them has.
        in_all: how long all of them have together; one that has no time left is sent nothing.
    """
    deadline = monotonic() + in_all
    for place, target in enumerate(targets, 1):
        left = min(seconds, round(deadline - monotonic(), 1))
        if left > 0:
            result = target.send(message, left)
        else:
            result = SendResult(taken=False, reason="not tried: the receivers before it took all the time")
        yield {"place": place, "receiver": target.name, "taken": result.taken, "answer": result.reason}


def send_from_process(settings: Settings) -> list[Result]:
    """The same in a process of its own, which gets the URLs over a pipe.

    Raises:
        MirrorError: it gave no result.
    """
    in_all = max(0.0, PROCESS_SECONDS - START_SECONDS)
    given = json.dumps({"urls": settings.alert_urls, "message": message_for(settings)._asdict(), "in_all": in_all})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "service.alerts.trial"],
            input=given, capture_output=True, text=True, timeout=PROCESS_SECONDS, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        # Bytes, whatever was wanted.
        results = _read((error.stdout or b"").decode())
        late = f"no response in time: the {PROCESS_SECONDS:g} s for all receivers were over"
        return [*results, {"place": len(results) + 1, "receiver": "the rest", "taken": False, "answer": late}]
    except (subprocess.CalledProcessError, OSError) as error:
        # Its output may hold a URL.
        raise MirrorError(f"the test message could not be sent: {type(error).__name__}") from None
    return _read(done.stdout)


def _read(lines: str) -> list[Result]:
    return [json.loads(line) for line in lines.splitlines()]


def describe(act: Act, results: Sequence[Result]) -> None:
    """Say in an act's row what each receiver said."""
    act.detail["receivers"] = [{name: one[name] for name in ("receiver", "taken", "answer")} for one in results]
    if not all(one["taken"] for one in results):
        act.outcome = FAILED


def _main() -> None:
    given = json.load(sys.stdin)
    message = notification.Message(**given["message"])
    for result in send_to_each(receivers.parse(given["urls"]), message, PERSON_SECONDS, given["in_all"]):
        sys.stdout.write(f"{json.dumps(result)}\n")
        sys.stdout.flush()
    # Python would wait for Apprise's thread that waits for a receiver.
    os._exit(0)


if __name__ == "__main__":
    _main()
