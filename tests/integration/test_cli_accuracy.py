"""`headshot-mirror accuracy`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from service.cli.accuracy import NO_FIGURES
from service.mirror import accuracy_figures
from service.storage.database import transaction
from tests.support.cli import Cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mirror import StartMirror


def test_mirror_of_ten_models_has_too_few_checks(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=10)
    cli = Cli(folder, **here.variables)
    assert cli.run("accuracy").out.strip() == NO_FIGURES
    assert cli.run("accuracy", "--json").document == []
    here.pull()
    here.pull()
    with transaction(here.runtime.engine) as connection:
        accuracy_figures.compute(connection, here.settings.accuracy_slo)
    found = cli.run("accuracy", "--json").document
    assert [(row["period"], row["fields"]) for row in found] == [
        (period, fields) for period in ("1h", "24h", "28d") for fields in ("list", "detail")
    ]
    assert (found[0]["compared"], found[0]["wrong"], found[0]["rate"], found[0]["slo_met"]) == (10, 0, 0, None)
    assert found[0]["upper_95"] == pytest.approx(1 - 0.05**0.1)
    header, first, *_ = cli.run("accuracy").out.splitlines()
    assert header.split()[:6] == ["period", "fields", "slo_met", "rate", "lower_95", "upper_95"]
    here.sql("update headshotpro.accuracy_figures set computed_at = now() - interval '6 min' where fields = 'detail'")
    assert re.match(r"1h +detail +out of date ", cli.run("accuracy").out.splitlines()[2])
    assert re.match(r"1h +list +too few checks +0\.000000 +0\.000000 +0\.258866 +10 +0 ", first)
