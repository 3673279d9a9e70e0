"""The sandbox's small parts: times, bodies, signature, rate, switches, faults, kept state."""

from __future__ import annotations

import json
import sqlite3
from random import Random
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from service.errors import LocalServerError, SettingsError
from service.local.sandbox.account import Account, new_organization
from service.local.sandbox.command import DEFAULTS, sandbox
from service.local.sandbox.events import bare_body, full_body, new_event
from service.local.sandbox.hostile import FAULTS, FaultInjector, broken_body
from service.local.sandbox.model import iso, milliseconds, webhook_object
from service.local.sandbox.people import population
from service.local.sandbox.rate import RateWindow
from service.local.sandbox.sender import VendorDelivery, signature
from service.local.sandbox.state import TABLES, StateFile
from service.local.sandbox.switches import Switches, parse_switches

if TYPE_CHECKING:
    from pathlib import Path

START = 1_700_000_000_000


def test_times_have_the_vendors_form_and_come_back() -> None:
    assert iso(1705314600000) == "2024-01-15T10:30:00.000Z"
    assert milliseconds("2024-01-15T10:30:00.000Z") == 1705314600000
    assert milliseconds("2024-01-15T11:30:00+01:00") == 1705314600000
    assert all(milliseconds(iso(START + number)) == START + number for number in range(1000))
    with pytest.raises(ValueError, match="no offset"):
        milliseconds("2024-01-15T10:30:00")


def test_the_signature_is_hmac_sha256_over_timestamp_and_body() -> None:
    # Computed with: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
    expected = "49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"
    assert signature("secret", 1700000000, b'{"a":1}') == expected


def test_the_two_forms_of_a_body() -> None:
    organization = new_organization(Random(1))
    (model,) = population(1, organization, Random(1), now=START, speed=1)
    event = new_event(Random(1), "model.created", START, webhook_object(model, organization.id))
    full, bare = json.loads(full_body(event)), json.loads(bare_body(event))
    assert list(full) == ["id", "event", "createdAt", "objectType", "object"]
    assert full["id"].startswith("evt_")
    assert full["object"]["deletedAt"] is None
    assert list(bare) == ["event", "objectType", "object"]
    assert "deletedAt" not in bare["object"]


def test_a_window_refuses_past_its_limit_and_begins_anew() -> None:
    window = RateWindow(Switches(rate=3))
    assert [window.take(START + number).remaining for number in range(3)] == [2, 1, 0]
    refused = window.take(START + 59_999)
    assert not refused.allowed
    assert refused.headers() == {
        "X-RateLimit-Limit": "3",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": iso(START + 60_000),
    }
    assert window.take(START + 60_000).remaining == 2


def test_rate_zero_refuses_nobody() -> None:
    window = RateWindow(Switches(rate=0))
    assert all(window.take(START).allowed for _ in range(2000))


def test_looking_costs_nothing() -> None:
    window = RateWindow(Switches(rate=3))
    assert [window.peek(START).remaining for _ in range(5)] == [3] * 5


def test_switches_are_turned_all_or_none() -> None:
    switches = Switches()
    switches.update_switches({"loss": 0.5, "quiet": True})
    switches.update_switches({"errors": 0.2})
    assert (switches.loss, switches.errors, switches.quiet) == (0.5, 0.2, True)
    for wrong in ({"loss": 0.1, "errors": 2}, {"loss": 0.1, "unheard_of": 1}, {"order": "random"}):
        with pytest.raises(SettingsError):
            switches.update_switches(wrong)
    assert switches.loss == 0.5
    with pytest.raises(SettingsError, match=r"^errors: "):
        parse_switches({"errors": 2})


def test_faults_are_drawn_at_their_rate_and_of_every_kind() -> None:
    fault_injector = FaultInjector(Switches(errors=0.5), Random(1))
    drawn = [fault_injector.fault() for _ in range(1000)]
    assert set(drawn) == {None, *FAULTS}
    assert 400 < drawn.count(None) < 600
    friendly = FaultInjector(Switches(), Random(1))
    assert {friendly.fault() for _ in range(100)} == {None}
    assert not any(friendly.drifts() for _ in range(100))
    assert friendly.delays() == (0.0, 0.0)
    assert friendly.lag() == 0


def test_broken_response_ends_in_mid_body_or_before_it() -> None:
    cut = broken_body(b"1234", "cut")
    assert next(cut) == b"12"
    for rest in (cut, broken_body(b"1234", "dropped")):
        with pytest.raises(ConnectionResetError):
            next(rest)


def test_what_is_kept_comes_back(folder: Path) -> None:
    organization = new_organization(Random(1))
    account = Account(organization=organization, api_key="key", webhook_secret="secret", seed=1, credits=5)
    models = {model.id: model for model in population(50, organization, Random(1), now=START, speed=1)}
    waiting = {number: VendorDelivery(number=number, body="{}", due=START, tries=1, stamp=7) for number in (1, 2, 3)}
    keep = StateFile(folder / "new" / "state.db")
    assert keep.load() is None
    keep.write(account, models, waiting)
    account.credits = 4
    keep.write(account, {}, {2: None})
    keep.close()
    again = StateFile(folder / "new" / "state.db")
    kept = again.load()
    again.close()
    assert kept is not None
    assert kept.account == account
    assert {model.id: model for model in kept.models} == models
    assert kept.deliveries == [waiting[1], waiting[3]]


def test_a_state_file_belongs_to_one_process_and_must_be_one(folder: Path) -> None:
    first = StateFile(folder / "state.db")
    with pytest.raises(LocalServerError, match="in use"):
        StateFile(folder / "state.db", timeout=0.1)
    first.close()
    (folder / "letter.txt").write_text("Dear database, " * 500)
    with pytest.raises(SettingsError, match=r"letter\.txt"):
        StateFile(folder / "letter.txt")
    with pytest.raises(SettingsError, match="cannot"):
        StateFile(folder / "letter.txt" / "state.db")


def test_a_state_file_of_another_version_is_named_as_such(folder: Path) -> None:
    with sqlite3.connect(folder / "state.db") as file:
        file.executescript(TABLES)
        file.execute("insert into account values (1, '{}')")
    file.close()
    with pytest.raises(SettingsError, match="another version"):
        StateFile(folder / "state.db").load()


def test_help_has_an_example_and_every_switch() -> None:
    text = CliRunner().invoke(sandbox, ["--help"]).output
    assert "Example:" in text
    names = set(DEFAULTS.__struct_fields__) - {"whitelabel"}
    assert not [name for name in names if f"--{name.replace('_', '-')}" not in text]
