"""An administrator who is held to one team: every administration route, with ids of the own team,
of another and of nobody's.

A route that is added is closed to them; one that is opened needs a line in `OPEN`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.adapters.embedded.store import EmbeddedStore
from app.api.openapi import DocumentedRoute
from app.api.operator.routes import OPERATOR_ROUTES
from app.api.organization.routes import ORGANIZATION_ROUTES
from app.domain.administration import AdminScope
from app.domain.limits import Limits
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.flow.test_generate import GENERATE, wait_for
from tests.flow.test_invitations import accept
from tests.harness import KOI, Koi, gateway

ADMIN_KEY = "admin-7f0c1e5a9b3d4c2f"
RIVAL = "rival"
"""Part of every name of the other team, and of no answer to a team admin."""
ORG, OWN = "/v1/organization", "/v1/koi"
OPEN = {
    f"GET {ORG}/projects": None,
    f"GET {ORG}/projects/{{project_id}}": None,
    f"GET {ORG}/projects/{{project_id}}/users": None,
    f"POST {ORG}/projects/{{project_id}}/users": {"user_id": "newcomer"},
    f"GET {ORG}/projects/{{project_id}}/users/{{user_id}}": None,
    f"POST {ORG}/projects/{{project_id}}/users/{{user_id}}": {"role": "member"},
    f"GET {ORG}/projects/{{project_id}}/service_accounts": None,
    f"POST {ORG}/projects/{{project_id}}/service_accounts": {"name": "a new app"},
    f"GET {ORG}/projects/{{project_id}}/service_accounts/{{service_account_id}}": None,
    f"POST {ORG}/projects/{{project_id}}/service_accounts/{{service_account_id}}": {"name": "b"},
    f"DELETE {ORG}/projects/{{project_id}}/service_accounts/{{service_account_id}}": None,
    f"POST {ORG}/projects/{{project_id}}/service_accounts/{{service_account_id}}/api_keys": {},
    f"GET {ORG}/projects/{{project_id}}/api_keys": None,
    f"GET {ORG}/projects/{{project_id}}/api_keys/{{api_key_id}}": None,
    f"POST {ORG}/projects/{{project_id}}/api_keys/{{api_key_id}}": {"name": "named anew"},
    f"DELETE {ORG}/projects/{{project_id}}/api_keys/{{api_key_id}}": None,
    f"GET {ORG}/projects/{{project_id}}/rate_limits": None,
    f"GET {ORG}/projects/{{project_id}}/spend_limit": None,
    f"GET {ORG}/projects/{{project_id}}/model_permissions": None,
    f"GET {ORG}/users": None,
    f"GET {ORG}/users/{{user_id}}": None,
    f"POST {ORG}/users/{{user_id}}": {"name": "called anew"},
    f"DELETE {ORG}/users/{{user_id}}": None,
    f"GET {ORG}/audit_logs": None,
    f"GET {ORG}/usage/images": None,
    f"GET {ORG}/costs": None,
    f"POST {OWN}/users": {"name": "another"},
    f"GET {OWN}/users/{{user_id}}/api_keys": None,
    f"POST {OWN}/users/{{user_id}}/api_keys": {"name": "one more"},
    f"DELETE {OWN}/api_keys/{{api_key_id}}": None,
    f"POST {OWN}/api_keys/{{api_key_id}}/rotate": {},
    f"POST {OWN}/users/{{user_id}}/raise": {
        "max_images_per_1_day": 1, "until": "2h", "reason": "a deadline",
    },
    f"DELETE {OWN}/users/{{user_id}}/raise": None,
    f"POST {OWN}/api_keys/{{api_key_id}}/raise": {
        "max_images_per_1_day": 1, "until": "2h", "reason": "a deadline",
    },
    f"DELETE {OWN}/api_keys/{{api_key_id}}/raise": None,
    f"GET {OWN}/invitations": None,
    f"POST {OWN}/invitations": {"user_id": "invited"},
    f"DELETE {OWN}/invitations/{{invitation_id}}": None,
    f"GET {OWN}/people": None,
    f"GET {OWN}/people/{{user_id}}": None,
    f"GET {OWN}/api_keys": None,
    f"POST {OWN}/keys/identify": {"text": "whose"},
    f"POST {OWN}/welcome": {"name": "welcomed"},
    f"GET {OWN}/usage": None,
    f"GET {OWN}/jobs": None,
    f"GET {OWN}/jobs/{{job_id}}": None,
    f"DELETE {OWN}/jobs/{{job_id}}": None,
    f"GET {OWN}/prices": None,
}  # fmt: skip
ADMIN_ROUTES = [*ORGANIZATION_ROUTES, *OPERATOR_ROUTES]
NOBODYS = {
    "project_id": "nowhere", "user_id": "nobody", "service_account_id": "nothing",
    "api_key_id": "key_0000000000000000", "invitation_id": "key_1111111111111111",
    "job_id": f"task_{'0' * 32}", "alert_id": "alert_0000000000000000", "rate_limit_id": "all",
    "key_id": "admkey_0000000000000000",
}  # fmt: skip


@dataclass(frozen=True)
class Teams:
    koi: Koi
    lead: httpx.Client
    root: httpx.Client
    own: dict[str, str]
    others: dict[str, str]
    secrets: dict[str, str]

    def ask(self, route: DocumentedRoute, ids: dict[str, str]) -> httpx.Response:
        path = route.path
        for name, value in (NOBODYS | ids).items():
            path = path.replace(f"{{{name}}}", value)
        method = named(route).partition(" ")[0]
        body = OPEN.get(named(route)) or {}
        return self.lead.request(
            method, path, json=body if method == "POST" else None, params={"start_time": "1"}
        )


def named(route: DocumentedRoute) -> str:
    (method,) = (route.methods or set()) - {"HEAD"}
    return f"{method} {route.path}"


async def create_teams(operator: OperatorContext) -> dict[str, dict[str, str]]:
    made: dict[str, dict[str, str]] = {}
    for team, user, app in (("blue", "ann", "robot"), ("rivals", "rival-rita", "rival-robot")):
        await operator.keys.create_team(team, Limits(images_per_day=100))
        await operator.keys.create_user(user, team=team, limits=Limits(images_per_day=50))
        await operator.keys.create_service_account(app, team)
        key = await operator.keys.issue(user, name=f"{user}'s laptop")
        await operator.keys.stop_spending(f"user:{app}", f"{app} went mad")
        invitation = await operator.invitations.create(user, name=f"{user}'s phone")
        made[team] = {
            "project_id": team, "user_id": user, "service_account_id": app,
            "api_key_id": key.key.id, "invitation_id": invitation.invitation.id,
            "secret": key.secret,
        }  # fmt: skip
    loner = await operator.keys.issue("rival-loner", name="rival, of no team")
    made["loner"] = {"secret": loner.secret}
    lead = await operator.admin_keys.issue("lead", frozenset({AdminScope.ALL}), team="blue")
    assert lead.key.scopes == {AdminScope.READ, AdminScope.PEOPLE, AdminScope.MONEY}
    return {**made, "lead": {"secret": lead.secret, "id": lead.key.id}}


@pytest.fixture(scope="module")
def teams(provider: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teams]:
    with (
        EmbeddedStore(tmp_path_factory.mktemp("store")) as store,
        gateway(
            provider,
            store.url,
            tmp_path_factory.mktemp("koi"),
            admin_key=ADMIN_KEY,
            default_images_per_day=50,
        ) as koi,
    ):
        made = koi.operate(create_teams)
        for team in ("blue", "rivals", "loner"):
            with koi.client(made[team]["secret"]) as user:
                answer = user.post(GENERATE, json={**KOI, "prompt": team, "async": True})
                made[team]["job_id"] = answer.json()["id"]
                wait_for(user, made[team]["job_id"])
        secrets = {name: ids.pop("secret") for name, ids in made.items()}
        with koi.client(secrets["lead"]) as lead, koi.client(ADMIN_KEY) as root:
            alert = root.post(
                f"{ORG}/projects/rivals/spend_alerts",
                json={
                    "currency": "USD", "interval": "month", "threshold_amount": 1,
                    "notification_channel": {"type": "email", "recipients": ["x@rival.example"]},
                },
            )  # fmt: skip
            if alert.status_code == 200:
                made["rivals"]["alert_id"] = alert.json()["id"]
            yield Teams(koi, lead, root, made["blue"], made["rivals"], secrets)


def test_every_route_is_closed_to_team_admins_unless_a_line_here_opens_it(teams: Teams) -> None:
    known = {named(route) for route in ADMIN_ROUTES}
    assert OPEN.keys() <= known
    for route in ADMIN_ROUTES:
        if named(route) in OPEN:
            continue
        answers = [teams.ask(route, ids) for ids in (teams.own, teams.others, {})]
        for answer in answers:
            assert answer.status_code == 403, named(route)
            assert answer.json()["error"]["code"] == "insufficient_permissions"
        assert len({answer.text for answer in answers}) == 1, named(route)


def test_what_is_of_another_team_is_answered_as_what_is_nobodys(teams: Teams) -> None:
    for route in ADMIN_ROUTES:
        if named(route) not in OPEN or "{" not in route.path:
            continue
        got = teams.ask(route, teams.others)
        nobodys = teams.ask(route, {})
        assert got.status_code == nobodys.status_code == 404, (named(route), got.text)
        assert got.json() == nobodys.json(), named(route)
        mixed = {**teams.others, "project_id": "blue"}
        if "{project_id}/" in route.path and route.path.count("{") > 1:
            mixed_nobodys = teams.ask(route, {"project_id": "blue"})
            got = teams.ask(route, mixed)
            assert got.status_code == 404, named(route)
            assert got.json() == mixed_nobodys.json(), named(route)


def test_no_list_shows_anything_of_another_team(teams: Teams) -> None:
    filters: list[dict[str, Any]] = [
        {},
        {"team": "rivals", "teams": "rivals", "project_ids": "rivals"},
        {"user": "rival-rita", "users": "rival-rita", "user_ids": "rival-rita", "q": "rival"},
        {"group_by": "user"},
        {"resource_ids": "rival-rita"},
        {"kind": "team"},
        {"teams": "-", "project_ids": "-", "team": "-", "group_by": "user"},
    ]
    for route in ADMIN_ROUTES:
        if not named(route).startswith("GET") or named(route) not in OPEN or "{" in route.path:
            continue
        for query in filters:
            asked = {"start_time": "1", "period": "month", **query}
            answer = teams.lead.get(route.path, params=asked)
            assert answer.status_code in (200, 400), (route.path, query, answer.text)
            assert RIVAL not in answer.text, (route.path, query)
            assert teams.others["api_key_id"] not in answer.text
            assert teams.others["job_id"] not in answer.text


def test_a_team_admin_sees_what_is_of_the_own_team(teams: Teams) -> None:
    get = teams.lead.get
    users = get(f"{ORG}/users").json()["data"]
    assert {"ann", "robot"} <= {user["id"] for user in users}
    assert [one["id"] for one in get(f"{ORG}/projects").json()["data"]] == ["blue"]
    assert get(f"{OWN}/jobs").json()["data"][0]["id"] == teams.own["job_id"]
    assert get(f"{OWN}/jobs/{teams.own['job_id']}").status_code == 200
    rows = get(f"{OWN}/usage", params={"group_by": "user"}).json()["rows"]
    assert [row["user"] for row in rows] == ["ann"]
    found = teams.lead.post(f"{OWN}/keys/identify", json={"text": teams.secrets["blue"]}).json()
    assert found["found"][0]["key"]["user"] == "ann"
    for secret in (teams.secrets["rivals"], teams.secrets["lead"]):
        found = teams.lead.post(f"{OWN}/keys/identify", json={"text": secret}).json()
        assert found["found"][0]["kind"] == "unknown"


def test_limits_go_down_and_up_to_the_teams_own(teams: Teams) -> None:
    def set_limits(**limits: Any) -> httpx.Response:
        return teams.lead.post(f"{ORG}/users/ann", json={"limits": limits})

    assert set_limits(max_images_per_1_day=100).status_code == 200
    for wide in ({"max_images_per_1_day": 101}, {"max_images_per_1_day": None}):
        refused = set_limits(**wide)
        assert refused.status_code == 403
        assert "your team's" in refused.json()["error"]["message"]
    assert set_limits(max_images_per_1_day=60).status_code == 200
    # The team has no limit of a month: what is set can only be made smaller.
    assert set_limits(max_images_per_1_month=500).status_code == 200
    assert set_limits(max_images_per_1_month=501).status_code == 403
    assert set_limits(max_images_per_1_month=None).status_code == 403

    def raise_by(images: int, name: str = "max_images_per_1_day") -> int:
        body = {name: images, "until": "2h", "reason": "a deadline"}
        return teams.lead.post(f"{OWN}/users/ann/raise", json=body).status_code

    assert (raise_by(40), raise_by(41), raise_by(1, "max_images_per_1_month")) == (200, 403, 403)
    assert teams.lead.delete(f"{OWN}/users/ann/raise").status_code == 200


def test_who_is_made_is_of_the_own_team_and_a_name_of_others_is_taken(teams: Teams) -> None:
    made = [
        teams.lead.post(f"{OWN}/users", json={"name": "cat"}),
        teams.lead.post(f"{OWN}/welcome", json={"name": "dan"}),
        teams.lead.post(f"{OWN}/welcome", json={"name": "dan"}),
        teams.lead.post(f"{OWN}/invitations", json={"user_id": "eve"}),
    ]
    assert [answer.status_code for answer in made] == [200] * 4, [one.text for one in made]
    for name in ("cat", "dan", "eve"):
        user = teams.root.get(f"{ORG}/users/{name}").json()
        assert [project["id"] for project in user["projects"]["data"]] == ["blue"]
    for body in ({"name": "fay", "project_id": "rivals"}, {"name": "fay", "project_id": "none"}):
        assert teams.lead.post(f"{OWN}/users", json=body).status_code == 404
    for team in ("rivals", "none"):
        answer = teams.lead.post(f"{OWN}/welcome", json={"name": "fay", "team": team})
        assert answer.status_code == 403
    taken = teams.lead.post(f"{OWN}/users", json={"name": "rival-rita"})
    assert taken.json()["error"]["code"] == "conflict"
    wide = {"name": "gus", "limits": {"max_images_per_1_day": 101}}
    assert teams.lead.post(f"{OWN}/users", json=wide).status_code == 403
    assert teams.root.get(f"{ORG}/users/gus").status_code == 404


def test_an_invitation_of_the_team_admin_ends_when_its_user_leaves_the_team(teams: Teams) -> None:
    links = [
        teams.lead.post(f"{OWN}/invitations", json={"user_id": "hal"}).json()["url"]
        for _ in range(2)
    ]
    tokens = [link.rpartition("/")[2] for link in links]
    stays = accept(teams.koi, tokens[0])
    teams.koi.operate(lambda operator: operator.keys.move_user("hal", "rivals"))
    moved = accept(teams.koi, tokens[1])
    listed = teams.root.get(f"{OWN}/invitations", params={"limit": 100}).json()["data"]

    assert [one["status"] for one in listed if one["user_id"] == "hal"] == ["user_moved"]
    assert stays.status_code == 200
    assert (moved.status_code, moved.json()["error"]["code"]) == (410, "invitation_ended")
    assert "left the team" in moved.json()["error"]["message"]


def test_a_stop_of_the_operator_outlasts_the_team_admin(teams: Teams) -> None:
    path = f"{ORG}/projects/blue/service_accounts/robot"
    assert teams.lead.delete(path).status_code == 403
    assert teams.root.get(path).status_code == 200


def test_keys_are_made_rotated_and_ended_and_the_log_says_by_whom(teams: Teams) -> None:
    lead_id = teams.root.get(f"{ORG}/admin_api_keys").json()["data"][0]["id"]
    made = teams.lead.post(f"{OWN}/users/ann/api_keys", json={"name": "tablet"}).json()
    with teams.koi.client(made["value"]) as user:
        assert user.get("/v1/models").status_code == 200
    assert teams.lead.post(f"{OWN}/api_keys/{made['id']}/rotate", json={}).status_code == 200
    assert teams.lead.delete(f"{OWN}/api_keys/{made['id']}").status_code == 200
    log = teams.lead.get(f"{ORG}/audit_logs", params={"resource_ids": made["id"]}).json()["data"]
    assert {one["koi"]["kind"] for one in log} >= {"key.created", "key.rotated", "key.revoked"}
    assert {one["actor"]["api_key"]["id"] for one in log} == {lead_id}
    assert teams.lead.get(f"{OWN}/session").json()["team"] == "blue"


def test_the_key_ends_with_its_team(teams: Teams) -> None:
    teams.root.post(f"{ORG}/projects/blue", json={"disabled": True})
    try:
        assert teams.lead.get(f"{ORG}/users").status_code == 401
    finally:
        teams.root.post(f"{ORG}/projects/blue", json={"disabled": False})
    assert teams.lead.get(f"{ORG}/users").status_code == 200
