"""Sessions of the page: a cookie for a key, in requests of this gateway's own page only."""

import time
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
import redis

from app.adapters.redis import keyspace
from app.domain.administration import AdminScope
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway

SESSION = "/v1/koi/session"
ROOT = "admin-0123456789"
OWN = {"sec-fetch-site": "same-origin"}
COOKIE = "koi_session"
SECURE_COOKIE = "__Host-koi_session"


@pytest.fixture(scope="module")
def koi(engine: str, provider: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Koi]:
    """One gateway for all: each test signs in with a key of its own."""
    with redis.Redis.from_url(engine) as client:
        client.flushall()
    provider.reset()
    with gateway(provider, engine, tmp_path_factory.mktemp("koi"), admin_key=ROOT) as running:
        yield running


@pytest.fixture
def page(koi: Koi) -> Iterator[httpx.Client]:
    """A browser's requests from our own page."""
    with httpx.Client(base_url=koi.url, headers=OWN, timeout=20) as client:
        yield client


def sign_in(page: httpx.Client, key: str) -> httpx.Response:
    answer = page.post(SESSION, json={"key": key})
    assert answer.status_code == 200, answer.text
    return answer


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_a_session_does_what_its_key_does(koi: Koi, page: httpx.Client) -> None:
    entered = sign_in(page, koi.key("ann"))

    told = entered.json()
    assert (told["object"], told["role"], told["user"]) == ("koi.session", "holder", "ann")
    assert page.get(SESSION).json() == told
    assert page.get("/v1/usage").json()["key_id"] == told["key_id"]
    assert page.post(GENERATE, json=KOI).status_code == 200


def test_the_cookie_is_for_this_host_and_out_of_reach_of_scripts(
    koi: Koi, page: httpx.Client
) -> None:
    key = koi.key("ann")
    cookie = sign_in(page, key).headers["set-cookie"]

    name, _, attributes = cookie.partition("=")
    assert name == COOKIE
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= {
        part.strip() for part in attributes.split(";")
    }
    assert key not in cookie
    assert "Domain" not in cookie


def test_behind_tls_the_cookie_is_bound_to_the_host(
    koi: Koi, provider: Sandbox, engine: str
) -> None:
    public = "https://koi.example/gate/v1"
    with gateway(provider, engine, koi.settings.data_dir, public_url=public) as koi:
        key, own = koi.key("tess"), {"origin": "https://koi.example"}
        entered = httpx.post(f"{koi.url}{SESSION}", json={"key": key}, headers=own)
        cookie = entered.headers["set-cookie"]
        token = cookie.partition("=")[2].partition(";")[0]

        assert cookie.startswith(f"{SECURE_COOKIE}=")
        assert cookie.endswith("; Secure")
        usage = f"{koi.url}/v1/usage"
        told = [
            httpx.get(usage, headers={"cookie": f"{name}={token}"}).status_code
            for name in (SECURE_COOKIE, COOKIE)
        ]
        assert told == [200, 401]
        headers = {"cookie": f"{SECURE_COOKIE}={token}", "origin": "https://evil.example"}
        assert httpx.post(f"{koi.url}{GENERATE}", json=KOI, headers=headers).status_code == 403


def test_a_token_from_before_never_becomes_somebodys(koi: Koi, page: httpx.Client) -> None:
    planted = "A" * 43
    page.cookies.set(COOKIE, planted)

    entered = sign_in(page, koi.key("ann"))
    first = entered.cookies[COOKIE]
    assert first != planted
    page.cookies.clear()
    page.cookies.set(COOKIE, first)
    second = sign_in(page, koi.key("bob")).cookies[COOKIE]

    answers = [
        httpx.get(f"{koi.url}{SESSION}", headers={"cookie": f"{COOKIE}={token}"})
        for token in (planted, first, second)
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 200]


def test_of_two_cookies_of_one_name_neither_counts(koi: Koi, page: httpx.Client) -> None:
    token = sign_in(page, koi.key("ann")).cookies[COOKIE]

    both = {"cookie": f"{COOKIE}={token}; {COOKIE}={'B' * 43}"}
    assert httpx.get(f"{koi.url}/v1/usage", headers=both).status_code == 401


FOREIGN = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_write_from_elsewhere_is_refused_and_costs_nothing(
    koi: Koi, page: httpx.Client, headers: dict[str, str]
) -> None:
    token = sign_in(page, koi.key("cross")).cookies[COOKIE]
    billed = koi.sandbox.billed_images

    sent = {"cookie": f"{COOKIE}={token}", **headers}
    refused = [
        httpx.post(f"{koi.url}{GENERATE}", json=KOI, headers=sent),
        httpx.delete(f"{koi.url}/v1/tasks/task_{'0' * 32}", headers=sent),
        httpx.delete(f"{koi.url}{SESSION}", headers=sent),
    ]

    assert [(answer.status_code, code_of(answer)) for answer in refused] == [
        (403, "cross_origin_refused")
    ] * 3
    assert koi.sandbox.billed_images == billed
    assert page.get(SESSION).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN[:5], ids=str)
def test_nobody_is_signed_in_from_elsewhere(koi: Koi, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{koi.url}{SESSION}", json={"key": koi.key("ann")}, headers=headers)

    assert (answer.status_code, code_of(answer)) == (403, "cross_origin_refused")
    assert "set-cookie" not in answer.headers


def test_a_reading_of_another_page_has_no_cookie(koi: Koi, page: httpx.Client) -> None:
    token = sign_in(page, koi.key("ann")).cookies[COOKIE]

    for site, status in (("cross-site", 401), ("same-site", 401), ("none", 200)):
        sent = {"cookie": f"{COOKIE}={token}", "sec-fetch-site": site}
        assert httpx.get(f"{koi.url}/v1/usage", headers=sent).status_code == status


def test_without_fetch_metadata_the_origin_decides(koi: Koi, page: httpx.Client) -> None:
    token = sign_in(page, koi.key("ann")).cookies[COOKIE]

    sent = {"cookie": f"{COOKIE}={token}", "origin": koi.url}
    assert httpx.post(f"{koi.url}{GENERATE}", json=KOI, headers=sent).status_code == 200


def test_a_key_in_a_header_wins_over_the_cookie(koi: Koi, page: httpx.Client) -> None:
    sign_in(page, koi.key("ann"))

    told = page.get("/v1/usage", headers={"x-api-key": koi.key("bob")}).json()
    assert told["user"] == "bob"
    assert page.get("/v1/usage", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_a_revoked_key_ends_its_session(koi: Koi, page: httpx.Client) -> None:
    key_id = sign_in(page, koi.key("ann")).json()["key_id"]

    async def revoke(operator: OperatorContext) -> None:
        await operator.keys.revoke(key_id)

    koi.operate(revoke)
    # Known keys stay known for three seconds in a process that did not make the change.
    _wait_until_refused(page)
    assert page.post(GENERATE, json=KOI).status_code == 401


def _wait_until_refused(page: httpx.Client) -> None:
    with httpx.Client(base_url=page.base_url, headers=OWN, cookies=page.cookies) as client:
        for _ in range(400):
            if client.get(SESSION).status_code == 401:
                return
            time.sleep(0.02)
    raise AssertionError("the session is still alive")


def test_a_session_ends_when_its_key_expires(koi: Koi, page: httpx.Client) -> None:
    sign_in(page, koi.key("ann", expires_in=timedelta(seconds=3)))

    _wait_until_refused(page)


def test_signing_out_ends_it_in_the_store_too(koi: Koi, page: httpx.Client) -> None:
    token = sign_in(page, koi.key("ann")).cookies[COOKIE]

    left = page.delete(SESSION)
    assert left.json() == {"object": "koi.session.deleted", "deleted": True}
    assert "Max-Age=0" in left.headers["set-cookie"]
    kept = httpx.get(f"{koi.url}{SESSION}", headers={"cookie": f"{COOKIE}={token}"})
    assert kept.status_code == 401
    assert kept.headers["www-authenticate"] == "Bearer"


def test_a_session_is_kept_as_a_digest_and_for_twelve_hours(
    koi: Koi, page: httpx.Client, engine: str
) -> None:
    key = koi.key("kept")
    entered = sign_in(page, key)
    token = entered.cookies[COOKIE]

    with redis.Redis.from_url(engine, decode_responses=True) as client:
        names = list(client.scan_iter(f"{keyspace.key('session')}*"))
        values = " ".join(str(client.get(name)) for name in names)
        lives = [client.pttl(name) for name in names]
    assert names
    assert token not in " ".join(names) + values
    assert key not in values
    assert all(0 < life <= 12 * 3_600_000 for life in lives)


def test_a_key_has_twenty_sessions_at_most(koi: Koi, page: httpx.Client) -> None:
    key = koi.key("many")
    tokens = []
    for _ in range(21):
        page.cookies.clear()
        tokens.append(sign_in(page, key).cookies[COOKIE])

    def status(token: str) -> int:
        sent = {"cookie": f"{COOKIE}={token}"}
        return httpx.get(f"{koi.url}{SESSION}", headers=sent).status_code

    assert [status(token) for token in (tokens[0], tokens[1], tokens[-1])] == [401, 200, 200]


@pytest.mark.parametrize("key", ["sk-koi-unknown-00000000", "x", "with blank", "ключ"])
def test_a_wrong_key_signs_nobody_in(page: httpx.Client, key: str) -> None:
    answer = page.post(SESSION, json={"key": key})

    assert (answer.status_code, code_of(answer)) == (401, "invalid_api_key")
    assert key not in answer.text


def test_an_operator_signs_in_with_the_admin_key(page: httpx.Client) -> None:
    told = sign_in(page, ROOT).json()

    assert (told["role"], told["user"], told["scopes"]) == ("operator", None, ["all"])
    assert page.get("/v1/organization/projects").status_code == 200
    made = page.post("/v1/organization/projects", json={"name": "session"})
    assert made.status_code == 200, made.text
    assert page.get("/v1/usage").status_code == 401
    foreign = page.post(
        "/v1/organization/projects", json={"name": "x"}, headers={"sec-fetch-site": "cross-site"}
    )
    assert (foreign.status_code, code_of(foreign)) == (403, "cross_origin_refused")


def test_an_operators_session_has_the_scopes_of_its_key(koi: Koi, page: httpx.Client) -> None:
    async def issue(operator: OperatorContext) -> str:
        return (await operator.admin_keys.issue("reads", frozenset({AdminScope.READ}))).secret

    told = sign_in(page, koi.operate(issue)).json()

    assert (told["role"], told["scopes"]) == ("operator", ["read"])
    assert page.get("/v1/organization/projects").status_code == 200
    refused = page.post("/v1/organization/projects", json={"name": "x"})
    assert (refused.status_code, code_of(refused)) == (403, "insufficient_permissions")


def test_a_holders_session_opens_no_administration(koi: Koi, page: httpx.Client) -> None:
    sign_in(page, koi.key("ann"))

    answer = page.get("/v1/organization/projects")
    assert (answer.status_code, code_of(answer)) == (403, "admin_key_required")


def test_without_the_page_there_are_no_sessions(
    koi: Koi, page: httpx.Client, provider: Sandbox, engine: str
) -> None:
    token = sign_in(page, koi.key("ann")).cookies[COOKIE]
    with gateway(provider, engine, koi.settings.data_dir, console=False) as koi:
        html, cookie = {"accept": "text/html"}, {"cookie": f"{COOKIE}={token}"}
        assert httpx.get(f"{koi.url}/v1/usage", headers=cookie).status_code == 401
        answers = [
            httpx.post(f"{koi.url}{SESSION}", json={"key": koi.key()}),
            httpx.get(f"{koi.url}/console/main.js"),
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert httpx.get(f"{koi.url}/", headers=html).json()["object"] == "koi"
