"""The vendor's four calls and its organization, over HTTP, as the vendor's pages have them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from tests.conftest import StartSandbox

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LIST_FIELDS = [
    "id", "uid", "email", "title", "status", "teamId", "teamName", "isDevelopment", "createdAt", "finishedAt",
]  # fmt: skip
MODELS = "/organization/models"


def refused(status: int, code: str) -> tuple[int, bool, str]:
    return status, False, code


def call(caller: SandboxClient, method: str, path: str, body: object = None) -> tuple[int, bool, str]:
    """Status, `success` and `code` of an answer; every refusal has words too."""
    answer = caller.api(method, path, body)
    if not answer.document["success"]:
        assert answer.document["error"]
    return answer.status, answer.document["success"], answer.document.get("code", "")


def test_the_list_has_the_documented_shape(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=120, quiet=True))
    answer = caller.api("GET", f"{MODELS}?status=active&limit=25")
    assert answer.document["success"] is True
    assert len(answer.document["models"]) == 25
    total = answer.document["pagination"].pop("total")
    assert 25 < total < 120
    assert answer.document["pagination"] == {"limit": 25, "offset": 0, "hasMore": True}
    for model in answer.document["models"]:
        assert list(model) == LIST_FIELDS
        assert model["status"] == "active"
        assert TIME.fullmatch(model["createdAt"])
        assert TIME.fullmatch(model["finishedAt"])
        assert re.fullmatch("[0-9a-f]{24}", model["id"])
    # The page's default, and its greatest page.
    assert len(caller.api("GET", MODELS).document["models"]) == 50
    assert caller.api("GET", f"{MODELS}?limit=1000").document["pagination"]["limit"] == 200


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("limit", [200, 7])
def test_walking_the_pages_meets_every_model_once_in_order(sandbox: StartSandbox, order: str, limit: int) -> None:
    caller = SandboxClient(sandbox(models=431, order=order, quiet=True))
    walked = list(caller.walk(limit))
    assert len({model["id"] for model in walked}) == len(walked) == 431
    times = [model["createdAt"] for model in walked]
    assert times == sorted(times, reverse=order == "newest")


def test_filters_choose_by_status_and_team(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=300, quiet=True))
    everybody = list(caller.walk(200))
    team = everybody[0]["teamId"] or everybody[1]["teamId"]
    for query, keeps in {
        "&status=pending": lambda model: model["status"] == "pending",
        f"&teamId={team}": lambda model: model["teamId"] == team,
        f"&status=active&teamId={team}": lambda model: (model["status"], model["teamId"]) == ("active", team),
        "&status=unheard-of": lambda model: False,
    }.items():
        assert list(caller.walk(3, query)) == [model for model in everybody if keeps(model)], query


def test_the_organization_names_its_teams(sandbox: StartSandbox) -> None:
    running = sandbox(models=30, quiet=True)
    caller = SandboxClient(running)
    organization = caller.api("GET", "/organization").document["organization"]
    assert list(organization) == ["uid", "name", "website", "teams"]
    names = {team["id"]: team["name"] for team in organization["teams"]}
    assert all(names.get(model["teamId"]) == model["teamName"] for model in caller.walk(50))
    caller.control("POST", "/hostile", {"dialect": "others"})
    assert caller.api("GET", "/organization").document["data"] == organization


def test_a_single_model_tells_what_the_list_does_not(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=60, quiet=True))
    listed = next(caller.walk(1, "&status=active"))
    model = caller.api("GET", f"{MODELS}/{listed['id']}").document["model"]
    assert {name: model[name] for name in LIST_FIELDS} == listed
    assert model["photoCount"] > 0
    assert set(model) - set(LIST_FIELDS) == {"photoCount", "favoritePhotoId", "signedUrl"}
    assert model["signedUrl"].startswith("https://yourproheadshots.com/auth/social?token=")


def test_create_and_delete_and_their_refusals(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=5, credits=1, quiet=True))
    created = caller.api("POST", MODELS, {"email": "user@example.com", "isDevelopment": False})
    assert created.status == 200
    assert list(created.document) == ["success", "modelId", "status", "signedUrl"]
    assert created.document["status"] == "onboarding"
    place = f"{MODELS}/{created.document['modelId']}"
    single = caller.api("GET", place).document["model"]
    assert (single["email"], single["photoCount"], single["favoritePhotoId"]) == ("user@example.com", 0, None)
    assert abs(int(single["id"][:8], 16) - datetime.now(UTC).timestamp()) < 60

    assert call(caller, "POST", MODELS, {"email": "nobody"}) == refused(400, "INVALID_REQUEST")
    assert call(caller, "POST", MODELS, {"email": "user@example.com"}) == refused(400, "INVALID_REQUEST")
    assert call(caller, "POST", MODELS, {}) == refused(400, "INVALID_REQUEST")
    assert call(caller, "POST", MODELS, b"{no json") == refused(400, "INVALID_REQUEST")
    assert call(caller, "POST", MODELS, {"email": "a@b.example", "teamId": "none"}) == refused(404, "NOT_FOUND")
    assert call(caller, "POST", MODELS, {"email": "a@b.example"}) == refused(402, "INSUFFICIENT_CREDITS")
    assert call(caller, "POST", MODELS, {"email": "a@b.example", "isDevelopment": True}) == (200, True, "")

    deleted = caller.api("DELETE", place)
    assert deleted.document == {
        "success": True,
        "message": "Model deleted successfully",
        "modelId": created.document["modelId"],
    }
    assert call(caller, "DELETE", place) == refused(400, "ALREADY_DELETED")
    assert call(caller, "GET", place) == refused(404, "NOT_FOUND")
    assert call(caller, "DELETE", f"{MODELS}/{'0' * 24}") == refused(404, "NOT_FOUND")


def test_no_whitelabel_refuses_creates_and_shows_no_login_link(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=1, no_whitelabel=True, quiet=True))
    assert call(caller, "POST", MODELS, {"email": "a@b.example"}) == refused(403, "FORBIDDEN")
    (listed,) = caller.walk(1)
    assert "signedUrl" not in caller.api("GET", f"{MODELS}/{listed['id']}").document["model"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=ten", "limit=", "limit=1.5", "offset=-1", "offset=x", "offset=9999999999"]
)
def test_a_bad_limit_or_offset_is_refused(sandbox: StartSandbox, query: str) -> None:
    assert call(SandboxClient(sandbox(models=1, quiet=True)), "GET", f"{MODELS}?{query}") == refused(
        400, "INVALID_REQUEST"
    )


def test_the_key_is_checked_and_unknown_paths_are_not_found(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=1, api_key="the key", quiet=True))
    assert caller.api("GET", MODELS).status == 200
    assert caller.api("GET", MODELS, key="another key").document["code"] == "UNAUTHORIZED"
    assert caller.api("GET", MODELS, key="clé").status == 401
    assert call(caller, "GET", "/organizations") == refused(404, "NOT_FOUND")
    assert call(caller, "PUT", MODELS) == refused(404, "NOT_FOUND")


def test_responses_carry_date_and_rate_headers_and_limit_holds(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=1, rate=3, rate_window=2, quiet=True))
    paths = [MODELS, "/organization", f"{MODELS}/none", MODELS]
    answers = [caller.api("GET", path) for path in paths]
    assert [answer.status for answer in answers] == [200, 200, 404, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[-1].document["code"] == "RATE_LIMIT_EXCEEDED"
    for answer in [*answers, caller.api("GET", MODELS, key="wrong")]:
        assert answer.headers["X-RateLimit-Limit"] == "3"
        assert TIME.fullmatch(answer.headers["X-RateLimit-Reset"])
        assert abs(parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)) < timedelta(seconds=30)
    # The window ends, and with it the refusals.
    while (answer := caller.api("GET", MODELS)).status == 429:
        assert datetime.now(UTC) < datetime.fromisoformat(answer.headers["X-RateLimit-Reset"]) + timedelta(seconds=30)
    assert answer.headers["X-RateLimit-Remaining"] == "2"


def test_requests_over_one_connection_are_counted(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=1, quiet=True))
    for _ in range(20):
        caller.api("GET", MODELS)
    caller.api("GET", f"{MODELS}/none")
    counted = caller.control("GET", "/requests")
    assert counted == {
        "total": 21,
        "connections": 1,
        "requests": [
            {"method": "GET", "route": MODELS, "status": 200, "count": 20},
            {"method": "GET", "route": f"{MODELS}/:modelId", "status": 404, "count": 1},
        ],
    }
    assert caller.control("DELETE", "/requests")["total"] == 0


def test_a_person_watching_sees_models_come_and_go_on(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=20, births=1200, speed=300))
    (created,) = [caller.api("POST", MODELS, {"email": "a@b.example", "isDevelopment": True}).document["modelId"]]
    while caller.control("GET", f"/models/{created}")["status"] != "active":
        pass
    assert len(caller.control("GET", "/models")) > 21


def test_the_truth_can_be_changed_silently(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=0, quiet=True))
    first, second = caller.control("POST", "/models", {"n": 2, "status": "pending", "isDevelopment": True})
    changed = caller.control("PATCH", f"/models/{first['id']}", {"status": "active", "title": "Zoë", "photoCount": 7})
    assert (changed["status"], changed["title"], changed["photoCount"]) == ("active", "Zoë", 7)
    assert changed["finishedAt"]
    caller.control("DELETE", f"/models/{second['id']}")
    assert [model["title"] for model in caller.walk(10)] == ["Zoë"]
    assert {model["id"]: model["vanished"] for model in caller.control("GET", "/models")} == {
        first["id"]: False,
        second["id"]: True,
    }
    old = caller.control("POST", "/models", {"createdAt": "2020-02-02T02:02:02.000Z"})[0]
    assert old["id"].startswith(f"{int(datetime(2020, 2, 2, 2, 2, 2, tzinfo=UTC).timestamp()):08x}")
    assert [model["id"] for model in caller.walk(10)] == [first["id"], old["id"]]
    for wrong in (
        {"id": "short"},
        {"photoCount": "many"},
        {"unheardOf": 1},
        {"createdAt": "yesterday"},
        {"n": "x"},
        {"status": 5},
    ):
        assert caller.failing_control("POST", "/models", wrong).status == 400
    assert caller.failing_control("PATCH", "/models/none", {}).status == 404
    assert caller.failing_control("POST", "/hostile", {"loss": 2}).status == 400
