"""The vendor's page's examples, all of them, against the mirror: the sandbox's answers, field by field.

Only base URL and key are put in. docs/api.md lists the fields that the mirror leaves out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.integration import test_sandbox_examples as page
from tests.support.api import KEY, KEYS
from tests.support.mirror import Mirror
from tests.support.system import System

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartSandbox

DOCUMENTED = "507f1f77bcf86cd799439011"


class Target(NamedTuple):
    """Where an example goes."""

    url: str
    api_key: str


class Both(NamedTuple):
    """The vendor, and our web process beside it."""

    mirror: Mirror
    vendor: Target
    ours: Target


@pytest.fixture
def both(sandbox: StartSandbox, database_url: str, redis_url: str, folder: Path) -> Iterator[Both]:
    running = sandbox(models=80, quiet=True)
    mirror = Mirror(running, database_url, redis_url)
    mirror.vendor.control("POST", "/organization", {"teams": [{"name": "Marketing", "id": "team_xyz789"}]})
    mirror.create(id=DOCUMENTED, status="active", photoCount=40)
    mirror.pull()
    with System(folder, **mirror.variables | {"MIRROR_API_KEYS": KEYS}) as system:
        system.start("web")
        system.wait_for_web()
        yield Both(mirror, Target(running.url, running.api_key), Target(f"{system.url}/api/v2", KEY))
    mirror.close()


def shape(document: Any) -> Any:
    """A document without its values: the names and kinds of its fields, in their order."""
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items()}
    return [shape(value) for value in document] if isinstance(document, list) else type(document).__name__


def test_the_pages_curl_examples_get_the_vendors_responses(both: Both) -> None:
    assert page.run_curl(page.CURL_LIST, both.ours) == page.run_curl(page.CURL_LIST, both.vendor)
    theirs = page.run_curl(page.CURL_SINGLE, both.vendor)
    ours = page.run_curl(page.CURL_SINGLE, both.ours)
    assert theirs["model"].items() - ours["model"].items() == {
        (name, theirs["model"][name]) for name in ("photoCount", "favoritePhotoId", "signedUrl")
    }
    fresh = page.run_curl(page.CURL_SINGLE.replace(DOCUMENTED, f"{DOCUMENTED}?fresh=true"), both.ours)
    assert fresh == theirs
    del theirs["model"]["signedUrl"]
    assert page.run_curl(page.CURL_SINGLE, both.ours) == theirs
    made = page.run_curl(page.CURL_CREATE, both.ours)
    assert both.mirror.differences(ids={made["modelId"]}) == []
    both.mirror.vendor.api("DELETE", f"/organization/models/{made['modelId']}")
    assert shape(page.run_curl(page.CURL_CREATE, both.vendor)) == shape(made)
    assert page.run_curl(page.CURL_DELETE, both.ours) == {
        "success": True, "message": "Model deleted successfully", "modelId": DOCUMENTED,
    }  # fmt: skip
    assert both.mirror.model(DOCUMENTED)["status"] == "deleted"


@pytest.mark.long
def test_the_pages_node_examples_get_the_vendors_responses(both: Both) -> None:
    listed = page.run_node(page.NODE_LIST, "models, pagination", both.ours)
    assert listed == page.run_node(page.NODE_LIST, "models, pagination", both.vendor)
    # It was asked for once, so its details are known.
    page.run_curl(page.CURL_SINGLE.replace(DOCUMENTED, f"{DOCUMENTED}?fresh=true"), both.ours)
    theirs = page.run_node(page.NODE_SINGLE, "model", both.vendor)
    del theirs["model"]["signedUrl"]
    assert page.run_node(page.NODE_SINGLE, "model", both.ours) == theirs
    made = page.run_node(page.NODE_CREATE, "modelId, status, signedUrl", both.ours)
    assert both.mirror.differences(ids={made["modelId"]}) == []
    both.mirror.vendor.api("DELETE", f"/organization/models/{made['modelId']}")
    assert shape(page.run_node(page.NODE_CREATE, "modelId, status, signedUrl", both.vendor)) == shape(made)


def requests_for_the_organization(both: Both) -> int:
    rows = both.mirror.vendor.control("GET", "/requests")["requests"]
    return sum(row["count"] for row in rows if row["route"] == "/organization")


def test_organization_is_the_vendors_and_read_once_a_minute(both: Both) -> None:
    curl = 'curl -X GET "https://server.headshotpro.com/api/v2/organization" -H "Authorization: Bearer YOUR_API_KEY"'
    theirs = page.run_curl(curl, both.vendor)
    sent = requests_for_the_organization(both)
    assert [page.run_curl(curl, both.ours) for _ in range(3)] == [theirs] * 3
    assert requests_for_the_organization(both) == sent + 1
    for key in both.mirror.runtime.redis.keys("headshotpro:organization:*"):
        assert 0 < both.mirror.runtime.redis.ttl(key) <= 60
        both.mirror.runtime.redis.delete(key)
    both.mirror.set_switches(errors=1)
    failed = page.run_curl(curl, both.ours)
    assert failed["success"] is False
    # The vendor's own error, or ours where there was none.
    assert failed["code"] in {"INTERNAL_SERVER_ERROR", "UPSTREAM_ERROR"}
    both.mirror.set_switches(errors=0)
    assert page.run_curl(curl, both.ours) == theirs
