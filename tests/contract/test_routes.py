"""Default deny: every route wants a key unless it is on the list of open ones."""

from typing import Any

import pytest
from starlette.routing import Match, Route

from app.api.direct_routes import DirectRoutes
from app.api.holder.routes import HOLDER_ROUTES
from app.api.organization.routes import INVITED_ROUTES
from app.api.routes import ROUTE_TEMPLATES, ROUTES, UNAUTHENTICATED_PATHS, UNLOGGED_PATHS
from app.api.webhook_routes import WEBHOOK_ROUTES
from app.main import create_app
from tests.contract.bad_bodies import assert_error, koi
from tests.contract.conftest import ADMIN_KEY, METRICS_TOKEN
from tests.contract.door import Door

DOCS = {"/openapi.json", "/docs", "/docs/{name}", "/llms.txt", "/skill.md"}
PLACES = {
    "task_id": "task_" + "0" * 32,
    "name": f"img_{'0' * 32}.png",
    "model:path": "grok-imagine",
}
WALK = [(route, method) for route in ROUTES for method in sorted(route.methods or ())]
ADMIN = [
    (route.method, route.path)
    for route in ROUTES
    if route.path.startswith(("/v1/organization", "/v1/koi"))
    and route not in (*HOLDER_ROUTES, *INVITED_ROUTES, *WEBHOOK_ROUTES)
]
BRINGS_ITS_PROOF = {("POST", "/v1/koi/session"), ("POST", "/v1/koi/invitations/accept")}
"""A key or a token in the body."""
NOT_CONFIGURED = {"/v1/koi/oidc/login", "/v1/koi/oidc/callback"}
"""They exist where an OpenID provider is set."""
PAGE = {"/", "/console/{name}", "/console/{folder}/{name}"}


def path_of(route: Route) -> str:
    path = route.path.replace("docs/{name}", "docs/init.js").replace(
        "console/{name}", "console/main.js"
    )
    path = path.replace("console/{folder}/{name}", "console/vendor/htm.js")
    for name, value in PLACES.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def named(item: object) -> str:
    return item.path if isinstance(item, Route) else str(item)


@pytest.mark.parametrize(("route", "method"), WALK, ids=named)
def test_a_route_without_a_key_is_closed(admin_door: Door, route: Route, method: str) -> None:
    answer = admin_door.call(method, path_of(route), key=None)

    if (method, route.path) in BRINGS_ITS_PROOF:
        assert answer.status == 400
    elif route.path in NOT_CONFIGURED:
        assert answer.status == 404
    else:
        assert answer.status == (200 if route.path in UNAUTHENTICATED_PATHS else 401)


def test_the_app_serves_this_table_and_nothing_else() -> None:
    app = create_app()

    assert [route.path for route in app.routes] == [route.path for route in ROUTES]  # type: ignore[attr-defined]
    assert {"/livez", "/readyz", *DOCS, *PAGE} == UNAUTHENTICATED_PATHS
    assert UNAUTHENTICATED_PATHS | UNLOGGED_PATHS <= ROUTE_TEMPLATES


async def nothing(*_: object) -> None:
    """An ASGI application that is never called."""


def first_match(scope: dict[str, Any]) -> Route | None:
    full = [route for route in ROUTES if route.matches(dict(scope))[0] is Match.FULL]
    return full[0] if full else None


@pytest.mark.parametrize(("route", "method"), WALK, ids=named)
def test_the_index_finds_the_route_that_the_framework_would_find(route: Route, method: str) -> None:
    index = DirectRoutes(nothing, ROUTES)
    for path in (path_of(route), path_of(route) + "/", path_of(route) + "/more", "/v1/images/"):
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path}
        found = index.find(scope)
        if found is None:
            wanted = first_match(scope)
            assert wanted is None or "{" in wanted.path
        else:
            wanted = first_match({"type": "http", "method": method, "path": path})
            assert found is wanted is scope["route"]
            assert scope["path_params"] == found.matches(dict(scope))[1]["path_params"]


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_without_an_admin_key_the_administration_does_not_exist(
    door: Door, method: str, path: str
) -> None:
    for key in (door.key, None, "sk-koi-admin-made-up-00000000"):
        assert_error(door.call(method, path, key=key), 404, "unknown_url", None)


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_a_users_key_does_not_open_the_administration(
    admin_door: Door, method: str, path: str
) -> None:
    assert_error(admin_door.call(method, path), 403, "admin_key_required", None)
    assert_error(admin_door.call(method, path, key="nobody"), 401, "invalid_api_key", None)


def test_an_unknown_url_of_the_administration_says_which_there_are(admin_door: Door) -> None:
    answer = admin_door.call("GET", "/v1/organization/certificates", key=ADMIN_KEY)

    assert_error(answer, 404, "unknown_url", None)
    for _, path in ADMIN:
        known = path.removeprefix("/v1/organization/")
        assert known in answer.error["message"] or path.startswith("/v1/koi")


def test_the_admin_key_is_no_users_key(admin_door: Door) -> None:
    answer = admin_door.call("GET", "/v1/models", key=ADMIN_KEY)

    assert_error(answer, 401, "invalid_api_key", None)


@pytest.mark.parametrize(("key", "status"), [
    (METRICS_TOKEN, 200), (ADMIN_KEY, 200), (None, 401), ("koi-ann-0123456789", 401),
])  # fmt: skip
def test_metrics_want_their_token_or_the_admin_key(
    admin_door: Door, key: str | None, status: int
) -> None:
    answer = admin_door.call("GET", "/metrics", key=key)

    assert answer.status == status
    assert (b"koi_requests_total" in answer.body) == (status == 200)


def test_health_says_words_and_no_more(door: Door) -> None:
    ready = door.call("GET", "/readyz", key=None)
    door.stage.able = False
    unready = door.call("GET", "/readyz", key=None)
    live = door.call("GET", "/livez", key=None)

    assert (ready.status, ready.json) == (200, {"status": "ready", "ledger": "ok"})
    assert (unready.status, unready.json) == (503, {"status": "not_ready", "ledger": "away"})
    assert (live.status, live.json) == (200, {"status": "ok"})


def test_every_request_is_measured_under_its_template(door: Door) -> None:
    door.post(koi())
    door.call("GET", "/v1/tasks/task_" + "0" * 32)
    door.call("GET", "/nowhere")

    # The record is written after the answer; a fourth request is a barrier for the third.
    door.call("GET", "/livez", key=None)
    routes = [(row[0], row[1], row[2], row[5]) for row in door.stage.observed[:3]]
    assert routes == [
        ("/v1/images/generations", "POST", 200, "miss"),
        ("/v1/tasks/{task_id}", "GET", 404, None),
        ("unmatched", "GET", 404, None),
    ]
    assert all(0 <= row[4] <= row[3] for row in door.stage.observed[:3])
