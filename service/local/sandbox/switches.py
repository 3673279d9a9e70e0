"""The options of a sandbox, and every switch that can be turned while it runs: bounds and defaults in one place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from service.errors import SettingsError

Share = Annotated[float, Meta(ge=0, le=1)]
Delay = Annotated[float, Meta(ge=0, le=3600)]
Lag = Annotated[float, Meta(ge=0, le=60)]
Days = Annotated[float, Meta(ge=-1e7, le=1e7)]
Factor = Annotated[float, Meta(gt=0, le=1e9)]
Count = Annotated[float, Meta(ge=0, le=1e6)]


class InitialState(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The options of a new sandbox; `command.py` describes each. A key, secret or URL also replaces a kept one."""

    models: Annotated[int, Meta(ge=0)] = 250
    seed: int = 1
    credits: Annotated[int, Meta(ge=0)] = 100_000
    api_key: str | None = None
    webhook_secret: str | None = None
    webhook_url: str | None = None


class Switches(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The switches; delays and lags are in seconds, shares lie between 0 and 1. `command.py` says what each does."""

    order: Literal["newest", "oldest"] = "newest"
    deleted: Literal["hidden", "listed"] = "hidden"
    whitelabel: bool = True
    dialect: Literal["models", "others"] = "models"
    rate: Annotated[int, Meta(ge=0, le=10**6)] = 300
    rate_window: Factor = 60.0
    speed: Factor = 1.0
    births: Count = 20.0
    failure_rate: Share = 0.1
    quiet: bool = False
    webhook_form: Literal["full", "bare", "mixed"] = "full"
    retry_signing: Literal["anew", "first"] = "anew"
    loss: Share = 0.0
    duplicates: Share = 0.0
    reorder: Delay = 0.0
    errors: Share = 0.0
    slow: Delay = 0.0
    drift: Share = 0.0
    replica_lag: Lag = 0.0
    skew: Days = 0.0

    def update_switches(self, changes: dict[str, Any]) -> None:
        """Change some switches, all of them or none.

        Raises:
            SettingsError: one does not exist, or cannot take its value.
        """
        checked = parse_switches(msgspec.structs.asdict(self) | changes)
        for name, value in msgspec.structs.asdict(checked).items():
            setattr(self, name, value)


def parse_switches(given: dict[str, Any]) -> Switches:
    """Switches from a command line or a JSON body; those not given keep their defaults.

    Raises:
        SettingsError: one line that names the switch and what is wrong with it.
    """
    try:
        return msgspec.convert(given, Switches)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$.")
        raise SettingsError(f"{place.rstrip('`')}: {words}" if place else words) from None
