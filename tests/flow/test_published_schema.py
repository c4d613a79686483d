"""Schemathesis against the published schema: what it allows, what it forbids, and what comes back.

A real gateway before the sandbox. The draws are the same in each run, and few.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from app.adapters.embedded.store import EmbeddedStore
from app.api.holder.routes import HOLDER_ROUTES
from app.api.openapi import DocumentedRoute
from app.api.routes import ROUTES
from app.sandbox.server import Sandbox
from tests.flow.studio import CATALOG as WITH_REFERENCES
from tests.flow.studio import picture, uri
from tests.harness import KOI, Koi, gateway

# The gateway runs in a thread of this process, and its own use of `random` may fall into a draw.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
)
ADMIN_KEY = "admin-0a1b2c3d4e5f6a7b"
METRICS_TOKEN = "metrics-7b6a5f4e3d2c1b0a"
DRAWS = settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
DRAWN = [route for route in ROUTES if not route.path.startswith(("/docs", "/console"))]
WITH_INPUT = [route for route in DRAWN if route.operation.body or route.operation.parameters]


class House:
    """One gateway, its schema as a stranger reads it, and the key that each route wants.

    The library is imported here: it takes its time, and each worker imports this module.
    """

    def __init__(self, koi: Koi) -> None:
        import schemathesis
        from schemathesis import checks
        from schemathesis.specs.openapi import checks as conformance

        self.koi, self.user_key = koi, koi.key()
        self.modes = schemathesis.GenerationMode
        self.checks = [
            checks.not_a_server_error,
            conformance.status_code_conformance,
            conformance.content_type_conformance,
            conformance.response_headers_conformance,
            conformance.response_schema_conformance,
        ]
        # It is built when it is first asked for, which may take longer than the library waits.
        httpx.get(f"{koi.url}/openapi.json", timeout=120).raise_for_status()
        self.schema = schemathesis.openapi.from_url(f"{koi.url}/openapi.json")

    def operation(self, route: DocumentedRoute) -> Any:
        return self.schema[route.path_format][route.method]

    def allowed(self, route: DocumentedRoute) -> Any:
        return self.operation(route).as_strategy(self.modes.POSITIVE)

    def forbidden(self, route: DocumentedRoute) -> Any:
        return self.operation(route).as_strategy(self.modes.NEGATIVE)

    def headers(self, route: DocumentedRoute) -> dict[str, str]:
        key = self.user_key
        # Not to stop all spending by a drawn body: a user's key is refused there.
        if route in HOLDER_ROUTES:
            return {"authorization": f"Bearer {key}"}
        if "/organization" in route.path or (route.method, "koi" in route.path) == ("GET", True):
            key = ADMIN_KEY
        elif route.path == "/metrics":
            key = METRICS_TOKEN
        return {"authorization": f"Bearer {key}"}

    def ask(self, name: str, **parts: Any) -> Any:
        """The answer to one request, after a check that it is as the schema says."""
        (route,) = (route for route in ROUTES if route.operation.id == name)
        case = self.operation(route).Case(**parts)
        return case.call_and_validate(headers=self.headers(route), checks=self.checks)


@pytest.fixture(scope="module")
def house(provider: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    provider.reset()
    tokens = {"admin_key": ADMIN_KEY, "metrics_token": METRICS_TOKEN, "mcp": True}
    tokens["catalog"] = WITH_REFERENCES
    with (
        EmbeddedStore(tmp_path_factory.mktemp("schema-store")) as store,
        gateway(provider, store.url, tmp_path_factory.mktemp("schema"), **tokens) as koi,
    ):
        yield House(koi)
        koi.assert_ledger_matches_bill()


def draws(route: DocumentedRoute) -> settings:
    """Parameters are a few words and numbers each; a body has more that may differ."""
    return settings(DRAWS, max_examples=10 if route.operation.body else 4)


def named(route: DocumentedRoute) -> str:
    return f"{route.method} {route.path_format}"


@pytest.mark.parametrize("route", DRAWN, ids=named)
def test_what_the_schema_allows_is_answered_as_it_says(
    house: House, route: DocumentedRoute
) -> None:
    @draws(route)
    @given(case=house.allowed(route))
    def check(case: Any) -> None:
        case.call_and_validate(headers=house.headers(route), checks=house.checks)

    check()


@pytest.mark.parametrize("route", WITH_INPUT, ids=named)
def test_what_the_schema_forbids_never_breaks_the_gateway(
    house: House, route: DocumentedRoute
) -> None:
    @draws(route)
    @given(case=house.forbidden(route))
    def check(case: Any) -> None:
        case.call_and_validate(headers=house.headers(route), checks=house.checks)

    check()


BODIES = [
    {},
    {"response_format": "b64_json", "n": 2},
    {"response_format": "both", "quality": "hd", "size": "1536x1024"},
    {"stream": True},
    {"async": True},
]


@pytest.mark.parametrize("fields", BODIES, ids=lambda fields: "-".join(fields) or "plain")
def test_pictures_and_tasks_look_as_the_schema_says(house: House, fields: dict[str, Any]) -> None:
    body = {**KOI, "prompt": f"a koi with {fields}", **fields}
    made = house.ask("createImage", body=body, media_type="application/json")
    task_id = made.headers["x-koi-task-id"][0]
    place = {"task_id": task_id}

    task = house.ask("readTask", path_parameters=place, query={"wait": 20}).json()
    (listed,) = house.ask("listTasks", query={"limit": 1}).json()["data"]
    name = listed["data"][0]["url"].rpartition("/")[2].partition("?")[0]
    picture = house.ask("readImage", path_parameters={"name": name})
    known = {"If-None-Match": picture.headers["etag"][0]}

    assert (made.status_code, task["status"], listed["id"]) == (200, "completed", task_id)
    assert house.ask("readImage", path_parameters={"name": name}, headers=known).status_code == 304
    assert house.ask("cancelTask", path_parameters=place).status_code == 400
    assert house.ask("retrieveModel", path_parameters={"model": KOI["model"]}).status_code == 200
    assert house.ask("usageCosts", query={"start_time": 1}).json()["data"]


def test_edits_look_as_the_schema_says_as_a_form_and_as_json(house: House) -> None:
    order = {"model": "doubao-seedream-4.5", "prompt": "a koi like this"}
    form = {**order, "image": [picture()]}
    by_form = house.ask("createImageEdit", body=form, media_type="multipart/form-data")
    by_json = house.ask(
        "createImageEdit",
        body={**order, "images": [{"image_url": uri(picture("blue"))}]},
        media_type="application/json",
    )

    assert (by_form.status_code, by_json.status_code) == (200, 200), by_form.text


@pytest.mark.parametrize("route", DRAWN, ids=named)
def test_a_stranger_is_answered_as_the_schema_says(house: House, route: DocumentedRoute) -> None:
    @settings(DRAWS, max_examples=2)
    @given(case=house.allowed(route))
    def check(case: Any) -> None:
        case.call_and_validate(headers={"authorization": "Bearer nobody"}, checks=house.checks)

    check()
