"""One odd answer to a GET spoils nothing but itself: refetches, the detail sweep and verify go on with the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.mirror.detail_sweep import sweep
from tests.integration.test_failing_batches import locked
from tests.integration.test_verify import differences
from tests.support.cli import Cli
from tests.support.list_vendor import model
from tests.support.mirror import open_rows

if TYPE_CHECKING:
    from tests.integration.conftest import StartOdd
    from tests.support.mirror import Mirror


def waiting(here: Mirror, *ids: str) -> None:
    """Refetch requests that are due, in this order."""
    for number, model_id in enumerate(ids):
        here.sql(
            "insert into headshotpro.refetch_requests (model_id, after, reason, due_at) "
            "values (%s, now() - interval '1 hour', 'dispute', now() - %s * interval '1 second')",
            model_id, 100 - number,
        )  # fmt: skip


@pytest.mark.parametrize("count", [3_000_000_000, -7, "40", 40.5, True])
def test_odd_photo_count_is_absent_and_stops_no_refetch(odd: StartOdd, count: Any) -> None:
    vendor, here = odd([model(1), model(2)])
    here.pull()
    first, second = model(1)["id"], model(2)["id"]
    vendor.singles[first] = (200, {"success": True, "model": model(1, photoCount=count, favoritePhotoId="p1")})
    waiting(here, first, second)
    here.refetch()
    assert (here.model(first)["photo_count"], here.model(first)["favorite_photo_id"]) == (None, "p1")
    assert here.model(second)["photo_count"] == 40
    assert here.refetch_requests() == {}
    rows = [(row["model_id"], row["fields"]) for row in open_rows(here)]
    assert rows == [(first, ["photoCount"])]
    here.sql("update headshotpro.set_aside set found_at = found_at - interval '1 minute'")
    # A list contains no photo count, so a pull cannot know that it is well again; a GET does.
    here.pull()
    assert len(open_rows(here)) == len(rows)
    vendor.singles[first] = (200, {"success": True, "model": model(1, photoCount=7)})
    waiting(here, first)
    here.refetch()
    assert (here.model(first)["photo_count"], open_rows(here)) == (7, [])


def test_details_of_odd_models_are_compared_by_verify(odd: StartOdd) -> None:
    vendor, here = odd([model(1), model(2)])
    here.pull()
    sweep(here.runtime.engine, here.runtime.client, 5)
    vendor.singles[model(1)["id"]] = (200, {"success": True, "model": model(1, photoCount="40")})
    assert differences(here, details=True) == []


def test_model_whose_get_fails_is_named_by_verify(odd: StartOdd, folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.mirror.verify.SETTLE_SECONDS", 0.01)
    vendor, here = odd([model(1), model(2)])
    here.pull()
    vendor.records[:] = [model(1, title="Another"), model(2, title="Another")]
    vendor.singles[model(1)["id"]] = (200, {"success": True, "model": None})
    cli = Cli(folder, **here.variables)
    done = cli.run("verify")
    assert done.status == 1
    assert f"{model(1)['id']} could not be compared, because its GET failed: " in done.out
    assert f"{model(2)['id']}  title: " in done.out


@pytest.mark.parametrize("listed", [True, False], ids=["on both sides", "in the mirror alone"])
def test_model_whose_get_fails_is_not_among_those_compared(
    odd: StartOdd, folder: Any, monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    monkeypatch.setattr("service.mirror.verify.SETTLE_SECONDS", 0.01)
    vendor, here = odd([model(1), model(2), model(3)])
    here.pull()
    vendor.records[:] = [model(1, title="Another")] * listed + [model(2), model(3)]
    vendor.singles[model(1)["id"]] = (200, {"success": True, "model": None})
    done = Cli(folder, **here.variables).run("verify")
    assert done.status == 1
    assert done.out.startswith(f"No difference; models compared: 2.\n{model(1)['id']} could not be compared")


def test_unexpected_error_postpones_one_refetch(odd: StartOdd, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.mirror import apply as module

    _, here = odd([model(1), model(2)])
    here.pull()
    first, second = model(1)["id"], model(2)["id"]
    genuine = module.from_single

    def crash(model_id: str, *rest: Any) -> Any:
        if model_id == first:
            raise ZeroDivisionError
        return genuine(model_id, *rest)

    monkeypatch.setattr(module, "from_single", crash)
    waiting(here, first, second)
    here.refetch()
    assert here.refetch_requests().keys() == {first}
    assert here.model(second)["photo_count"] == 40


def test_lock_on_one_model_postpones_its_refetch_alone(odd: StartOdd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.mirror.refetch.LOCK_SECONDS", 0.2)
    _, here = odd([model(1), model(2)])
    here.pull()
    first, second = model(1)["id"], model(2)["id"]
    waiting(here, first, second)
    with locked(here.settings.postgres_url, first):
        here.refetch()
        assert here.refetch_requests().keys() == {first}
        assert here.model(second)["photo_count"] == 40
