"""The error of a receiver that refuses a message is kept without any part of its URL."""

from __future__ import annotations

from types import SimpleNamespace

import apprise
import pytest

from service.alerts.notification import Message
from service.alerts.receivers import Receiver

SECRET = "token-of-the-receiver"


@pytest.mark.parametrize("before", [0, 10, 180, 190, 199, 1000])
def test_secret_is_gone_wherever_long_words_are_cut(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    said = SimpleNamespace(message=f"{'x' * before} {SECRET}")

    class Result:
        status = apprise.AppriseResultStatus.FAILURE

        def __bool__(self) -> bool:
            return False

        def logs(self) -> list[SimpleNamespace]:
            return [said]

    monkeypatch.setattr(apprise.Apprise, "notify", lambda *_arguments, **_options: Result())
    answer = Receiver(f"json://host.example/{SECRET}").send(Message("title", "body", "info"))
    assert not answer.taken
    assert SECRET[:4] not in answer.reason
