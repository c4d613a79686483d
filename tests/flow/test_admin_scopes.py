"""What an admin key of each scope may do, by table, and that every change of the API is audited."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.embedded.store import EmbeddedStore
from app.api.organization.audit_logs import EVENTS
from app.api.organization.routes import ORGANIZATION_ROUTES
from app.domain.administration import AdminScope
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.flow.conftest import Start
from tests.harness import Koi, gateway

ROOT_KEY = "admin-6a5b4c3d2e1f0a9b"
SCOPES = tuple(AdminScope)
PROJECT = "/v1/organization/projects"
LIMITS = {"limits": {"max_images_per_1_day": 5}}
RAISE = {"until": "2h", "reason": "a test"}
BUDGET = {"currency": "CNY", "interval": "month", "threshold_amount": 900}
ALERT = {**BUDGET, "notification_channel": {"type": "email", "recipients": ["a@b.example"]}}
ALERT_VALUES = ("recipients", "scope", "threshold_micros")


@dataclass(frozen=True)
class Case:
    """A change, the scope that may make it beside `all`, and its record in the audit log."""

    method: str
    path: str
    body: dict[str, Any] | None
    scope: str
    kind: str | None = None
    changes: frozenset[str] = frozenset()
    status: int = 200


@dataclass
class Names:
    """What a place of a path stands for in one run."""

    values: dict[str, str] = field(default_factory=dict)

    def fill(self, text: str) -> str:
        for name, value in self.values.items():
            text = text.replace(f"<{name}>", value)
        return text


def case(method: str, path: str, body: Any, scope: str, kind: str = "", *changes: str) -> Case:
    return Case(method, path, body, scope, kind or None, frozenset(changes))


TEAM = f"{PROJECT}/<team>"
ACCOUNT = f"{TEAM}/service_accounts/<bot>"
TABLE = [
    case("POST", "/v1/koi/backups", None, "all", "ledger.downloaded", "begun"),
    case("POST", PROJECT, {"name": "<new>"}, "people", "team.created"),
    case("POST", PROJECT, {"name": "<new>b", **LIMITS}, "people+money", "team.created",
         "images_per_day"),
    case("POST", TEAM, {"name": "Another Name"}, "people", "team.updated", "title"),
    case("POST", TEAM, LIMITS, "money", "team.updated", "images_per_day"),
    case("POST", f"{TEAM}/rate_limits/rl-all", {"max_images_per_1_month": 70}, "money",
         "team.updated", "images_per_month"),
    case("POST", f"{TEAM}/spend_limit", BUDGET, "money", "team.updated", "micros_per_month"),
    case("DELETE", f"{TEAM}/spend_limit", None, "money", "team.updated", "micros_per_month"),
    case("POST", f"{TEAM}/model_permissions", {"mode": "deny_list", "model_ids": ["grok-imagine"]},
         "money", "team.updated", "denied_models"),
    case("DELETE", f"{TEAM}/model_permissions", None, "money"),
    case("POST", f"{TEAM}/users", {"role": "member", "user_id": "<new>"}, "people",
         "user.created", "team", "requests_per_minute"),
    case("POST", f"{TEAM}/users/<person>", {"role": "member"}, "people"),
    # The team has limits, which its people would leave behind.
    case("DELETE", f"{TEAM}/users/<person>", None, "people+money", "user.updated", "team"),
    case("POST", f"{TEAM}/service_accounts", {"name": "<new>", "create_service_account_only": True},
         "people", "service_account.created", "team", "service_account", "requests_per_minute"),
    case("POST", ACCOUNT, {"name": "Another Bot"}, "people", "service_account.updated", "title"),
    case("POST", f"{ACCOUNT}/api_keys", {"name": "more"}, "people", "key.created", "name", "user"),
    case("DELETE", ACCOUNT, None, "people", "service_account.deleted", "deleted_ms"),
    case("POST", f"{TEAM}/api_keys/<key>", {"name": "renamed"}, "people", "key.updated", "name"),
    case("POST", f"{TEAM}/api_keys/<key>", LIMITS, "money", "key.updated", "images_per_day"),
    case("POST", f"{TEAM}/api_keys/<key>", {"models": ["grok-imagine"]}, "money", "key.updated",
         "models"),
    case("DELETE", f"{TEAM}/api_keys/<key>", None, "people", "key.revoked", "revoked_ms"),
    case("POST", "/v1/organization/users/<person>", {"disabled": True}, "people", "user.disabled",
         "disabled_ms"),
    case("POST", "/v1/organization/users/<person>", {"name": "Ann B."}, "people", "user.updated",
         "title"),
    case("POST", "/v1/organization/users/<person>", LIMITS, "money", "user.updated",
         "images_per_day"),
    case("DELETE", "/v1/organization/users/<person>", None, "people", "user.deleted", "deleted_ms"),
    case("POST", "/v1/organization/admin_api_keys", {"name": "x", "scopes": ["read"]}, "all",
         "admin_key.created", "name", "scopes"),
    case("DELETE", "/v1/organization/admin_api_keys/<adminkey>", None, "all", "admin_key.revoked",
         "revoked_ms"),
    case("POST", "/v1/koi/spending", {"stopped": True, "project_id": "<team>", "reason": "why"},
         "money", "spending.stopped", "stopped", "reason"),
    case("POST", "/v1/koi/spending", {"stopped": False, "project_id": "<team>"}, "money"),
    case("POST", f"{TEAM}", {"disabled": True}, "people", "team.disabled", "disabled_ms"),
    case("POST", "/v1/koi/users", {"name": "<new>", "project_id": "<team>"}, "people",
         "user.created", "team", "requests_per_minute"),
    case("POST", "/v1/koi/users", {"name": "<new>b", "limits": {"max_requests_per_1_minute": None}},
         "people+money", "user.created"),
    case("POST", "/v1/koi/users/<person>/api_keys", {"name": "laptop", **LIMITS}, "people",
         "key.created", "name", "user", "images_per_day"),
    case("DELETE", "/v1/koi/api_keys/<key>", None, "people", "key.revoked", "revoked_ms"),
    case("POST", "/v1/koi/api_keys/<key>/rotate", {"overlap_seconds": 60}, "people",
         "key.rotated", "expires_ms"),
    case("POST", "/v1/koi/projects/<team>/raise", {"max_cost_per_1_month": "5", **RAISE}, "money",
         "team.raised", "raise_micros_per_month", "raise_reason", "raise_until_ms"),
    case("DELETE", "/v1/koi/projects/<team>/raise", None, "money"),
    case("POST", "/v1/koi/invitations", {"user_id": "<person>", "name": "laptop"}, "people",
         "invitation.created", "user", "invitation", "expires_ms", "name"),
    Case("DELETE", "/v1/koi/invitations/<unsent>", None, "people", status=404),
    case("POST", f"{TEAM}/spend_alerts", ALERT, "money", "spend_alert.created", *ALERT_VALUES),
    Case("POST", f"{TEAM}/spend_alerts/<none>", ALERT, "money", status=404),
    Case("DELETE", f"{TEAM}/spend_alerts/<none>", None, "money", status=404),
    case("POST", "/v1/organization/spend_alerts", ALERT, "money", "spend_alert.created",
         *ALERT_VALUES),
    Case("POST", "/v1/organization/spend_alerts/<none>", ALERT, "money", status=404),
    Case("DELETE", "/v1/organization/spend_alerts/<none>", None, "money", status=404),
    case("POST", "/v1/koi/users/<person>/raise", {"max_requests_per_1_minute": 5, **RAISE}, "money",
         "user.raised", "raise_requests_per_minute", "raise_reason", "raise_until_ms"),
    case("DELETE", "/v1/koi/users/<person>/raise", None, "money"),
    Case("POST", "/v1/koi/api_keys/<key>/raise", {"max_images_per_1_day": 5, **RAISE}, "money",
         status=400),  # it is unlimited
    case("DELETE", "/v1/koi/api_keys/<key>/raise", None, "money"),
    Case("DELETE", "/v1/koi/projects/<team>", None, "people", status=400),  # it has users
    case("POST", "/v1/koi/projects/<team>/restore", None, "people"),
    case("POST", f"{TEAM}/archive", None, "people", "team.archived", "archived_ms", "disabled_ms"),
]  # fmt: skip
BAD_BODIES = [
    ("/v1/koi/users", {"name": "a b"}, "invalid_value", "name"),
    ("/v1/koi/users", {"name": "<person>"}, "conflict", "name"),
    ("/v1/koi/users/<person>/api_keys", {"name": "x", "models": ["no"]}, "invalid_value",
     "model_ids"),
    ("/v1/koi/api_keys/<key>/rotate", {"overlap_seconds": -1}, "integer_below_min_value",
     "overlap_seconds"),
    (PROJECT, {}, "missing_required_parameter", "name"),
    (PROJECT, {"name": 7}, "invalid_type", "name"),
    (PROJECT, {"name": "x" * 121}, "string_above_max_length", "name"),
    (PROJECT, {"name": "a\x00b"}, "invalid_value", "name"),
    (PROJECT, {"name": "a", "colour": "red"}, "unknown_parameter", "colour"),
    (PROJECT, {"name": "a", "residency": {}}, "unsupported_parameter", "residency"),
    (PROJECT, {"name": "a", "limits": []}, "invalid_type", "limits"),
    (PROJECT, {"name": "a", "limits": {"x": 1}}, "unknown_parameter", "limits.x"),
    (PROJECT, {"name": "a", "limits": {"max_cost_per_1_day": "1e99"}}, "invalid_value",
     "max_cost_per_1_day"),
    (PROJECT, {"name": "a", "limits": {"max_images_per_1_day": -1}}, "integer_below_min_value",
     "max_images_per_1_day"),
    (f"{TEAM}/rate_limits/rl-all", {"max_tokens_per_1_minute": 5}, "unsupported_parameter",
     "max_tokens_per_1_minute"),
    (f"{TEAM}/rate_limits/rl-all", {"max_images_per_1_minute": -5}, "integer_below_min_value",
     "max_images_per_1_minute"),
    (f"{TEAM}/rate_limits/rl-all", {"max_requests_per_1_minute": "5"}, "invalid_type",
     "max_requests_per_1_minute"),
    (f"{TEAM}/spend_limit", {**BUDGET, "interval": "day"}, "invalid_value", "interval"),
    (f"{TEAM}/spend_limit", {**BUDGET, "threshold_amount": None}, "missing_required_parameter",
     "threshold_amount"),
    (f"{TEAM}/model_permissions", {"mode": "x", "model_ids": []}, "invalid_value", "mode"),
    (f"{TEAM}/model_permissions", {"mode": "deny_list"}, "missing_required_parameter", "model_ids"),
    (f"{TEAM}/users", {"role": "member"}, "missing_required_parameter", "user_id"),
    (f"{TEAM}/users", {"role": "owner", "user_id": "a"}, "invalid_value", "role"),
    (f"{TEAM}/users", {"role": "member", "user_id": "a b"}, "invalid_value", "name"),
    (f"{TEAM}/service_accounts",
     {"name": "a", "create_service_account_only": True, "expires_in_seconds": 5}, "invalid_value",
     "expires_in_seconds"),
    (f"{TEAM}/service_accounts", {"name": "<person>"}, "conflict", "name"),
    (f"{TEAM}/api_keys/<key>", {"expires_in_seconds": 0}, "integer_below_min_value",
     "expires_in_seconds"),
    (f"{TEAM}/api_keys/<key>", {"scopes": "all"}, "invalid_type", "scopes"),
    ("/v1/organization/users/<person>", {"disabled": "yes"}, "invalid_type", "disabled"),
    ("/v1/organization/users/<person>", {"role": "owner"}, "invalid_value", "role"),
    ("/v1/organization/users/<person>", {"role_id": "r"}, "unsupported_parameter", "role_id"),
    ("/v1/organization/admin_api_keys", {"name": "a", "scopes": ["write"]}, "invalid_value",
     "scopes"),
    ("/v1/organization/admin_api_keys", {"name": "a", "scopes": []}, "invalid_value", "scopes"),
    ("/v1/koi/spending", {"reason": "x"}, "missing_required_parameter", "stopped"),
    ("/v1/koi/spending", {"stopped": True, "reason": " "}, "missing_required_parameter", "reason"),
    ("/v1/koi/spending", {"stopped": True, "reason": "x", "user_id": "a", "project_id": "b"},
     "conflict", "user_id"),
]  # fmt: skip
READS = [
    route.path for route in ORGANIZATION_ROUTES if route.method == "GET" and "{" not in route.path
]


async def make_one_of_each(operator: OperatorContext, run: str) -> Names:
    """A team, a person, an app, its key and an admin key, for one run of one case."""
    names = {name: f"{name}-{run}" for name in ("team", "person", "bot", "new")}
    keys = operator.keys
    await keys.create_team(names["team"], operator.settings.house_limits)
    await keys.create_user(names["person"], team=names["team"])
    await keys.create_service_account(names["bot"], names["team"])
    names["key"] = (await keys.issue(names["bot"])).key.id
    issued = await operator.admin_keys.issue("temp", frozenset({AdminScope.READ}))
    names["adminkey"] = issued.key.id
    return Names(names)


@dataclass(frozen=True)
class Office:
    koi: Koi
    client: httpx.Client
    secrets: dict[str, str]
    prepared: dict[str, "Names"]

    def ask(self, scope: str, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.ask_with(self.secrets[scope], method, path, body)

    def ask_with(self, secret: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {secret}", "x-koi-reason": "a%20test"}
        return self.client.request(method, path, json=body, headers=headers)

    def newest_change(self) -> dict[str, Any]:
        log = self.ask("root", "GET", "/v1/organization/audit_logs?limit=1").json()
        return log["data"][0]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def office(provider: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    provider.reset()
    directory: Path = tmp_path_factory.mktemp("office")
    with (
        EmbeddedStore(tmp_path_factory.mktemp("office-store")) as store,
        gateway(
            provider,
            store.url,
            directory,
            admin_key=ROOT_KEY,
            default_requests_per_minute=120,
            house_budget_per_month="90",
        ) as koi,
        httpx.Client(base_url=koi.url, timeout=20) as client,
    ):

        async def furnish(operator: OperatorContext) -> Office:
            secrets = {"root": ROOT_KEY}
            for scope in SCOPES:
                issued = await operator.admin_keys.issue(scope, frozenset({scope}))
                secrets[scope] = issued.secret
            runs = [f"{scope}-{index}" for scope in secrets for index in range(len(TABLE))]
            runs += [f"bad-{index}" for index in range(len(BAD_BODIES))]
            prepared = {run: await make_one_of_each(operator, run) for run in runs}
            return Office(koi, client, secrets, prepared)

        yield koi.operate(furnish)


def allowed(case: Case, scope: str) -> bool:
    return scope in ("root", "all") or case.scope == scope


@pytest.mark.parametrize("scope", ["root", *SCOPES])
@pytest.mark.parametrize("index", range(len(TABLE)), ids=lambda i: f"{TABLE[i].method}{i}")
def test_a_change_is_made_by_its_scope_only_and_audited(
    office: Office, scope: str, index: int
) -> None:
    case = TABLE[index]
    names = office.prepared[f"{scope}-{index}"]
    body = case.body and {
        name: names.fill(value) if isinstance(value, str) else value
        for name, value in case.body.items()
    }
    before = office.newest_change()

    answer = office.ask(scope, case.method, names.fill(case.path), body)

    after = office.newest_change()
    if not allowed(case, scope):
        assert answer.status_code == 403, answer.text
        assert answer.json()["error"]["code"] == "insufficient_permissions"
        assert after == before
        return
    assert answer.status_code == case.status, answer.text
    if case.kind is None:
        assert after == before
        return
    assert after["koi"]["kind"] == case.kind
    assert after["koi"]["changes"].keys() == case.changes
    assert after["koi"]["reason"] == ("why" if case.kind == "spending.stopped" else "a test")
    assert after["type"] == EVENTS[case.kind]
    assert after["actor"]["type"] == "api_key"
    assert (after["actor"]["api_key"]["id"] == "root") == (scope == "root")


def test_the_table_has_every_route_that_changes_something() -> None:
    changing = {(r.method, r.path) for r in ORGANIZATION_ROUTES if r.method != "GET"}
    places = {
        "<team>": "{project_id}", "<bot>": "{service_account_id}", "<key>": "{api_key_id}",
        "<person>": "{user_id}", "<adminkey>": "{key_id}", "<none>": "{alert_id}",
        "<unsent>": "{invitation_id}",
        "rl-all": "{rate_limit_id}",
    }  # fmt: skip

    covered = set()
    for case in TABLE:
        path = case.path
        for place, name in places.items():
            path = path.replace(place, name)
        covered.add((case.method, path))
    assert covered == changing


@pytest.mark.parametrize("path", READS)
def test_every_admin_key_may_read(office: Office, path: str) -> None:
    for scope in ("root", *SCOPES):
        answer = office.ask(scope, "GET", f"{path}?start_time={2**31 - 1}&end_time={2**31}")
        assert answer.status_code == 200, (scope, answer.text)


def test_an_admin_key_is_no_users_key_and_its_secret_is_checked(office: Office) -> None:
    secret = office.secrets["all"]
    other = "y" if secret[20] == "x" else "x"
    for spoilt in (f"{secret}x", secret[:-1], secret[:20] + other + secret[21:]):
        answer = office.ask_with(spoilt, "GET", PROJECT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    models = office.ask("all", "GET", "/v1/models")
    assert (models.status_code, models.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(("path", "body", "code", "param"), BAD_BODIES)
def test_a_bad_body_is_refused_by_the_name_of_the_field(
    office: Office, path: str, body: dict[str, Any], code: str, param: str
) -> None:
    names = office.prepared[f"bad-{BAD_BODIES.index((path, body, code, param))}"]
    body = {name: names.fill(v) if isinstance(v, str) else v for name, v in body.items()}

    answer = office.ask("root", "POST", names.fill(path), body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    assert answer.headers["x-should-retry"] == "false"


async def issue_ended(operator: OperatorContext) -> tuple[str, str]:
    reads = frozenset({AdminScope.READ})
    expired = await operator.admin_keys.issue("expired", reads, timedelta(milliseconds=1))
    await asyncio.sleep(0.002)
    revoked = await operator.admin_keys.issue("revoked", reads)
    await operator.admin_keys.revoke(revoked.key.id)
    return expired.secret, revoked.secret


def test_an_expired_or_revoked_admin_key_opens_nothing(office: Office) -> None:
    for secret in office.koi.operate(issue_ended):
        answer = office.ask_with(secret, "GET", PROJECT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_without_a_root_key_an_issued_one_administers_and_is_rate_limited(start: Start) -> None:
    koi = start(key_requests_per_second=0.02)
    scopes = frozenset({AdminScope.READ})
    secret = koi.operate(lambda operator: operator.admin_keys.issue("ci", scopes)).secret

    def ask(key: str) -> tuple[int, str | None]:
        answer = httpx.get(f"{koi.url}{PROJECT}", headers={"authorization": f"Bearer {key}"})
        return answer.status_code, answer.json().get("error", {}).get("code")

    assert ask(koi.key()) == (404, "unknown_url")
    answers = [ask(secret) for _ in range(3)]

    assert answers[0] == (200, None)
    assert (429, "rate_limit_exceeded") in answers


def test_people_without_a_project_get_rotate_and_lose_keys(office: Office) -> None:
    def ask(method: str, path: str, body: Any = None) -> Any:
        answer = office.ask("root", method, f"/v1/koi/{path}", body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    user = ask("POST", "users", {"name": "zoe", "title": "Zoë", **LIMITS})
    key = ask("POST", "users/zoe/api_keys", {"name": "laptop"})
    rotated = ask("POST", f"api_keys/{key['id']}/rotate", {"overlap_seconds": 3600})
    listed = ask("GET", "users/zoe/api_keys")["data"]
    ask("DELETE", f"api_keys/{key['id']}")
    left = ask("GET", "users/zoe/api_keys")["data"]
    office.ask("root", "POST", PROJECT, {"name": "empty"})
    ask("POST", "projects/empty/restore")
    deleted = ask("DELETE", "projects/empty")

    assert (user["id"], user["name"], user["projects"]["data"]) == ("zoe", "Zoë", [])
    assert user["limits"]["max_images_per_1_day"] == 5
    assert user["limits"]["max_requests_per_1_minute"] == 120
    assert rotated["value"] != key["value"]
    assert [one["id"] for one in listed] == [key["id"], rotated["id"]]
    assert listed[0]["expires_at"] is not None
    assert [one["id"] for one in left] == [rotated["id"]]
    assert deleted["deleted"] is True
    assert office.ask("root", "GET", f"{PROJECT}/empty").status_code == 404


def test_people_alone_end_no_stop_and_shed_no_limit_by_deleting(office: Office) -> None:
    def ask(scope: str, method: str, path: str, body: Any = None) -> httpx.Response:
        return office.ask(scope, method, path, body)

    made = ask("root", "POST", "/v1/koi/users", {"name": "spender", **LIMITS})
    stop = {"stopped": True, "user_id": "spender", "reason": "too much"}
    assert (made.status_code, ask("money", "POST", "/v1/koi/spending", stop).status_code) == (
        200,
        200,
    )

    refused = ask("people", "DELETE", "/v1/organization/users/spender")
    resumed = ask("money", "POST", "/v1/koi/spending", {"stopped": False, "user_id": "spender"})
    deleted = ask("people", "DELETE", "/v1/organization/users/spender")
    again = ask("people", "POST", "/v1/koi/users", {"name": "spender"})

    assert (refused.status_code, refused.json()["error"]["code"]) == (
        403,
        "insufficient_permissions",
    )
    assert (resumed.status_code, deleted.status_code, again.status_code) == (200, 200, 200)
    assert again.json()["limits"]["max_images_per_1_day"] == 5


def test_the_next_app_of_a_deleted_ones_name_has_its_limits(office: Office) -> None:
    def ask(scope: str, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = office.ask(scope, method, path, body)
        assert answer.status_code == 200, answer.text
        return answer

    ask("root", "POST", PROJECT, {"name": "apps"})
    accounts = f"{PROJECT}/apps/service_accounts"
    ask("people", "POST", accounts, {"name": "poster"})
    ask("money", "POST", "/v1/organization/users/poster", {"limits": {"max_images_per_1_day": 0}})
    ask("people", "DELETE", f"{accounts}/poster")
    ask("people", "POST", accounts, {"name": "poster"})

    user = ask("read", "GET", "/v1/organization/users/poster").json()
    assert user["limits"]["max_images_per_1_day"] == 0


def test_a_key_revoked_while_its_body_is_on_the_way_changes_nothing(office: Office) -> None:
    made = office.ask("all", "POST", "/v1/organization/admin_api_keys",
                      {"name": "slow", "scopes": ["people"]}).json()  # fmt: skip
    body = b'{"name": "late"}'
    url = httpx.URL(office.koi.url)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as wire:
        head = (
            f"POST /v1/koi/users HTTP/1.1\r\nHost: {url.host}\r\nConnection: close\r\n"
            f"Authorization: Bearer {made['value']}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        wire.sendall(head.encode() + body[:5])
        revoked = office.ask("all", "DELETE", f"/v1/organization/admin_api_keys/{made['id']}")
        wire.sendall(body[5:])
        answer = b"".join(iter(lambda: wire.recv(4096), b""))

    assert revoked.status_code == 200
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert office.ask("root", "GET", "/v1/organization/users/late").status_code == 404
