"""Who may do what: every role at every route and method, walked from the router's own table.

A route that is added without a row here fails (S22, S49).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from app.adapters.embedded.store import EmbeddedStore
from app.api.routes import ROUTES
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.flow.test_generate import GENERATE, wait_for
from tests.harness import KOI, PRICED, Koi, gateway

ADMIN_KEY = "admin-7f0c1e5a9b3d4c2f"
METRICS_TOKEN = "metrics-1d2c3b4a5f6e7d8c"
PAINTER = """
[[models]]
name = "painter"
modes = ["sync"]
sizes = ["1024x1024"]
qualities = ["standard"]
"""
STRANGERS = ("nobody", "garbage", "revoked", "expired", "admin", "scraper")
CALLERS = ("ann", "bob", "narrow")
"""ann owns the task and the picture; bob is of another team; narrow is ann's key for one model."""


@dataclass(frozen=True)
class Row:
    """What each caller gets; `strangers` those who are no callers, unless named in `but`."""

    ann: int
    bob: int
    narrow: int
    strangers: int = 401
    but: tuple[tuple[str, int], ...] = ()

    def of(self, role: str) -> int:
        return dict(self.but).get(role) or (
            getattr(self, role) if role in CALLERS else self.strangers
        )


def both(status: int) -> Row:
    return Row(status, status, status)


OPEN = Row(200, 200, 200, strangers=200)


def for_admins(status: int = 200) -> Row:
    """What an admin gets for ids that are nobody's, or a body of another route."""
    return Row(403, 403, 403, but=(("admin", status),))


BODY_FIRST = frozenset(
    {
        "POST projects/{project_id}",
        "POST projects/{project_id}/rate_limits/{rate_limit_id}",
        "POST projects/{project_id}/spend_limit",
        "POST projects/{project_id}/spend_alerts",
        "POST projects/{project_id}/spend_alerts/{alert_id}",
        "POST spend_alerts/{alert_id}",
        "POST projects/{project_id}/api_keys/{api_key_id}",
        "POST users/{user_id}",
    }
)
"""These change a part of what is there, so they look it up when their body has come."""
ADMIN = for_admins()
SCRAPE = Row(401, 401, 401, but=(("admin", 200), ("scraper", 200)))
OWNED = Row(200, 404, 200)

TABLE = {
    "POST /v1/images/generations": Row(200, 200, 404),
    "POST /v1/images/edits": both(400),
    "POST /v1/images/variations": both(400),
    "GET /v1/images/{name}": OWNED,
    "GET /v1/tasks": both(200),
    "GET /v1/tasks/{task_id}": OWNED,
    "DELETE /v1/tasks/{task_id}": Row(400, 404, 400),
    "GET /v1/models": both(200),
    "GET /v1/models/{model:path}": Row(200, 200, 404),
    "GET /v1/usage": both(200),
    "GET /v1/organization/usage/images": ADMIN,
    "GET /v1/organization/costs": ADMIN,
    **{
        f"{method} /v1/organization/{path}": for_admins(
            400 if f"{method} {path}" in BODY_FIRST else 404
        )
        for path, methods in {
            "projects/{project_id}": "GET POST",
            "projects/{project_id}/archive": "POST",
            "projects/{project_id}/users": "GET POST",
            "projects/{project_id}/users/{user_id}": "GET POST DELETE",
            "projects/{project_id}/service_accounts": "GET POST",
            "projects/{project_id}/service_accounts/{service_account_id}": "GET POST DELETE",
            "projects/{project_id}/service_accounts/{service_account_id}/api_keys": "POST",
            "projects/{project_id}/api_keys": "GET",
            "projects/{project_id}/api_keys/{api_key_id}": "GET POST DELETE",
            "projects/{project_id}/rate_limits": "GET",
            "projects/{project_id}/rate_limits/{rate_limit_id}": "POST",
            "projects/{project_id}/spend_limit": "GET POST DELETE",
            "projects/{project_id}/model_permissions": "GET POST DELETE",
            "projects/{project_id}/spend_alerts": "GET POST",
            "projects/{project_id}/spend_alerts/{alert_id}": "GET POST DELETE",
            "spend_alerts/{alert_id}": "GET POST DELETE",
            "users/{user_id}": "GET POST DELETE",
            "admin_api_keys/{key_id}": "GET DELETE",
            "spend_limit": "GET",
        }.items()
        for method in methods.split()
    },
    **{
        f"{method} /v1/koi/{path}": for_admins(status)
        for method, path, status in (
            ("POST", "users", 400),
            ("GET", "users/{user_id}/api_keys", 404),
            ("POST", "users/{user_id}/api_keys", 404),
            ("DELETE", "api_keys/{api_key_id}", 404),
            ("POST", "api_keys/{api_key_id}/rotate", 400),
            ("DELETE", "projects/{project_id}", 404),
            ("POST", "projects/{project_id}/restore", 404),
            ("POST", "projects/{project_id}/raise", 400),
            ("DELETE", "projects/{project_id}/raise", 404),
            ("POST", "users/{user_id}/raise", 400),
            ("DELETE", "users/{user_id}/raise", 404),
            ("POST", "api_keys/{api_key_id}/raise", 400),
            ("DELETE", "api_keys/{api_key_id}/raise", 404),
            ("GET", "invitations", 200),
            ("GET", "spend_alerts", 200),
            ("POST", "invitations", 400),
            ("DELETE", "invitations/{invitation_id}", 404),
        )
    },
    **{
        f"{method} {path}": for_admins(200 if method == "GET" else 400)
        for path, methods in {
            "/v1/organization/projects": "GET POST",
            "/v1/organization/users": "GET",
            "/v1/organization/admin_api_keys": "GET POST",
            "/v1/organization/audit_logs": "GET",
            "/v1/organization/spend_alerts": "GET POST",
            "/v1/koi/backups/latest": "GET",
            "/v1/koi/spending": "GET POST",
        }.items()
        for method in methods.split()
    },
    "POST /v1/koi/backups": ADMIN,
    "POST /v1/koi/session": Row(400, 400, 400, strangers=400),
    "GET /v1/koi/session": Row(200, 200, 200, but=(("admin", 200),)),
    "DELETE /v1/koi/session": both(401),
    "GET /v1/koi/oidc/login": Row(404, 404, 404, strangers=404),
    "GET /v1/koi/oidc/callback": Row(404, 404, 404, strangers=404),
    **{f"GET /v1/koi/{noun}": both(200) for noun in ("account", "catalog", "pictures", "keys")},
    "POST /v1/koi/limit_requests": both(400),
    "DELETE /v1/images/{name}": both(404),
    "POST /v1/koi/keys": both(400),
    "POST /v1/koi/keys/{key_id}": both(400),
    "DELETE /v1/koi/keys/{key_id}": both(404),
    "POST /v1/koi/keys/{key_id}/rotate": both(400),
    "POST /v1/koi/invitations/accept": Row(400, 400, 400, strangers=400),
    "GET /v1/images/tasks/{task_id}": OWNED,
    **{
        f"GET /v1/dashboard/billing/{name}": both(200)
        for name in ("subscription", "credit_grants", "usage")
    },
    "GET /v1/koi/webhooks": both(200),
    "GET /v1/koi/webhooks/secret": Row(200, 200, 403),
    "POST /v1/koi/webhooks/secret": Row(200, 200, 403),
    "POST /v1/koi/webhooks/{delivery_id}/redeliver": both(404),
    "POST /mcp": both(400),
    "GET /mcp": both(405),
    "DELETE /mcp": both(204),
    **{
        f"{method} /v1/koi/{path}": for_admins(status)
        for method, path, status in (
            ("GET", "health", 200),
            ("GET", "settings", 200),
            ("GET", "people", 200),
            ("GET", "people/{user_id}", 404),
            ("GET", "api_keys", 200),
            ("POST", "keys/identify", 400),
            ("POST", "welcome", 400),
            ("POST", "configuration", 400),
            ("GET", "usage", 200),
            ("GET", "jobs", 200),
            ("GET", "jobs/{job_id}", 404),
            ("DELETE", "jobs/{job_id}", 404),
            ("POST", "jobs/{job_id}/refund", 400),
            ("GET", "prices", 200),
            ("POST", "bill", 400),
            ("GET", "ledger/check", 200),
            ("POST", "ledger/adjustments", 400),
        )
    },
    "GET /": OPEN,
    "GET /console/{name}": OPEN,
    "GET /console/{folder}/{name}": OPEN,
    "GET /livez": OPEN,
    "GET /readyz": OPEN,
    "GET /metrics": SCRAPE,
    "GET /openapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /llms.txt": OPEN,
    "GET /skill.md": OPEN,
    "GET /docs/{name}": OPEN,
}
WALK = [(route, method) for route in ROUTES for method in sorted(route.methods or ())]


@dataclass(frozen=True)
class Roles:
    koi: Koi
    secrets: dict[str, str | None]
    path_values: dict[str, str]
    client: httpx.Client

    def ask(self, role: str, method: str, path: str, **options: Any) -> httpx.Response:
        secret = self.secrets[role]
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        headers |= options.pop("headers", {})
        return self.client.request(method, self.koi.url + path, headers=headers, **options)

    def walk(self, role: str, route: Route, method: str) -> httpx.Response:
        path = route.path.replace("docs/{name}", "docs/init.js")
        path = path.replace("console/{name}", "console/main.js")
        path = path.replace("{folder}/{name}", "vendor/htm.js")
        if method == "DELETE":
            # The picture is still to be read by the next role.
            path = path.replace("{name}", f"img_{'0' * 32}.png")
        for name, value in self.path_values.items():
            path = path.replace(f"{{{name}}}", value)
        body = {**KOI, "prompt": f"by {role}"} if method == "POST" else None
        params = {"start_time": "1"} if "organization" in path else None
        return self.ask(role, method, path, json=body, params=params)


@pytest.fixture(scope="module")
def roles(provider: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    """One gateway for the whole walk, as it stands behind a public address."""
    provider.reset()
    directory = tmp_path_factory.mktemp("roles")
    catalog = directory / "catalog.toml"
    catalog.write_text(PRICED.read_text() + PAINTER)
    settings = {
        "host": "0.0.0.0",
        "admin_key": ADMIN_KEY,
        "metrics_token": METRICS_TOKEN,
        "catalog": catalog,
        "mcp": True,
    }
    with (
        EmbeddedStore(tmp_path_factory.mktemp("roles-store")) as store,
        gateway(provider, store.url, directory, **settings) as koi,
    ):
        secrets = koi.operate(create_everybody)
        with koi.client(secrets["ann"]) as ann:
            task_id = ann.post(GENERATE, json={**KOI, "async": True}).json()["id"]
            link = wait_for(ann, task_id)["data"][0]["url"]
        name = link.rpartition("/")[2].partition("?")[0]
        path_values = {"task_id": task_id, "name": name, "model:path": "grok-imagine"}
        with httpx.Client(base_url=koi.url, timeout=20) as client:
            yield Roles(koi, secrets, path_values, client)


async def create_everybody(operator: OperatorContext) -> dict[str, str | None]:
    issue: Callable[..., Any] = operator.keys.issue
    for team in ("blue", "red"):
        await operator.keys.create_team(team, operator.settings.default_limits)
    await operator.keys.create_user("ann", team="blue")
    await operator.keys.create_user("bob", team="red")
    revoked = await issue("ann")
    await operator.keys.revoke(revoked.key.id)
    narrow = frozenset({"painter"})
    return {
        "nobody": None,
        "garbage": "garbage",
        "revoked": revoked.secret,
        "expired": (await issue("ann", expires_in=timedelta(seconds=-1))).secret,
        "ann": (await issue("ann")).secret,
        "bob": (await issue("bob")).secret,
        "narrow": (await issue("ann", models=narrow)).secret,
        "admin": ADMIN_KEY,
        "scraper": METRICS_TOKEN,
    }


def named(route: Route, method: str) -> str:
    return f"{'GET' if method == 'HEAD' else method} {route.path}"


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {named(route, method) for route, method in WALK} == TABLE.keys()


@pytest.mark.parametrize("role", [*STRANGERS, *CALLERS])
def test_a_role_gets_what_its_row_says_at_every_route(roles: Roles, role: str) -> None:
    answers = {
        (named(route, method), method): roles.walk(role, route, method) for route, method in WALK
    }

    got = {key: answer.status_code for key, answer in answers.items()}
    assert got == {key: TABLE[key[0]].of(role) for key in got}
    assert not any("server" in answer.headers for answer in answers.values())


def test_no_spelling_of_a_path_opens_what_the_route_itself_keeps_shut(roles: Roles) -> None:
    """Authorisation is by the routed path; what only looks alike is unknown, never open."""
    closed = [
        (r.method, r.path) for r in ROUTES if TABLE[named(r, r.method)].of("ann") in (401, 403)
    ]
    spellings = [
        lambda p: p.upper(),
        lambda p: f"{p}/",
        lambda p: f"/{p}",
        lambda p: p.replace("/", "//"),
        lambda p: f"/livez/..{p}",
        lambda p: f"/livez/%2e%2e{p}",
        lambda p: f"/v1{p}",
        lambda p: p.replace("o", "%6f", 1),
        lambda p: f"{p};/livez",
        lambda p: f"{p}%00",
        lambda p: f"{p}.json",
        lambda p: f"/openai{p}",
    ]
    for (method, path), spelt, role in product(closed, spellings, ("nobody", "ann")):
        answer = roles.ask(role, method, spelt(path), params={"start_time": "1"})
        if answer.url.path == "/":
            assert answer.json()["object"] == "koi"  # the pointer to the documentation
        else:
            assert answer.status_code in (400, 401, 403, 404), (spelt(path), role)


HOSTILE_HOSTS = [
    "evil.example", "localhost", "127.0.0.1:1", "127.0.0.1:8000/metrics", "koi/livez", "livez",
    "a@127.0.0.1", "127.0.0.1/livez?", "127.0.0.1#", "[::1]:80", "[::1", "0x7f.1", "koi:99999",
    "koi:8000:8000", "koi%2flivez", "koi\\livez", "-", ".", "x" * 300, "admin", "metadata.internal",
    "169.254.169.254",
]  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/organization/costs", "/metrics", "/v1/nowhere"])
def test_no_host_header_changes_a_decision(roles: Roles, path: str) -> None:
    """S57: whatever the Host says, the answer is the same, or no answer at all."""
    for role in ("nobody", "ann", "admin"):
        usual = roles.ask(role, "GET", path, params={"start_time": "1"})
        for host in HOSTILE_HOSTS:
            answer = roles.ask(
                role, "GET", path, params={"start_time": "1"}, headers={"host": host}
            )
            if answer.status_code == 400:
                assert answer.json()["error"]["code"] == "invalid_host", host
            else:
                assert answer.status_code == usual.status_code, (host, role)


@pytest.mark.parametrize("role", ["nobody", "bob"])
def test_no_header_of_a_proxy_lends_a_role(roles: Roles, role: str) -> None:
    """S23, S52: nothing a caller writes into a header makes it somebody else."""
    lent = {
        "x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1", "forwarded": "for=127.0.0.1",
        "x-forwarded-host": "localhost", "x-original-url": "/livez", "x-rewrite-url": "/livez",
        "x-http-method-override": "GET", "x-forwarded-user": "ann", "x-user": "ann",
        "openai-organization": "blue", "openai-project": "blue", "x-admin": "true",
        "cookie": f"key={ADMIN_KEY}; authorization=Bearer {ADMIN_KEY}",
    }  # fmt: skip
    for path in ("/metrics", "/v1/organization/costs", f"/v1/tasks/{roles.path_values['task_id']}"):
        plain = roles.ask(role, "GET", path)
        lending = roles.ask(role, "GET", path, headers=lent)
        assert lending.status_code == plain.status_code in (401, 403, 404)


@pytest.mark.parametrize(
    "header",
    [
        "x-forwarded-for", "x-forwarded-port", "x-forwarded-prefix", "forwarded", "via", "origin",
        "referer", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "cf-ray",
        "x-envoy-external-address", "sec-fetch-site",
    ],
)  # fmt: skip
def test_metrics_that_are_open_on_loopback_are_shut_to_proxies_and_pages(
    koi: Koi, header: str
) -> None:
    direct = httpx.get(f"{koi.url}/metrics")
    relayed = httpx.get(f"{koi.url}/metrics", headers={header: "https://evil.example"})

    assert direct.status_code == 200
    assert relayed.status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "koi"])
def test_metrics_that_are_open_on_loopback_are_shut_to_a_page_led_here_by_its_name(
    koi: Koi, host: str
) -> None:
    assert httpx.get(f"{koi.url}/metrics", headers={"host": host}).status_code == 401
    assert httpx.get(f"{koi.url}/metrics", headers={"host": "localhost:80"}).status_code == 200


def test_no_field_of_a_body_makes_a_caller_somebody_else(roles: Roles) -> None:
    """S23: user, team, role, limits, price and key in a body change neither bill nor owner."""
    claims = {
        "user": "ann", "user_id": "ann", "team": "blue", "role": "admin",
        "key_id": "key_0", "limits": {"images_per_day": 10**6}, "unit_micros": 0, "price": 0,
        "tenant": "blue", "pool": "team:blue", "charged": False, "job_id": "task_1",
    }  # fmt: skip
    task = roles.ask("bob", "POST", GENERATE, json={**KOI, "prompt": "claims", **claims})
    task_id = task.headers["x-koi-task-id"]

    assert task.status_code == 200
    assert roles.ask("bob", "GET", f"/v1/tasks/{task_id}").status_code == 200
    assert roles.ask("ann", "GET", f"/v1/tasks/{task_id}").status_code == 404
    roles.koi.settled()
    (entry,) = [e for e in roles.koi.entries() if e.job == task_id]
    assert (entry.user, entry.team, entry.micros) == ("bob", "red", 140_000)
