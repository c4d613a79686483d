"""Sign-in by an OpenID provider, against one that signs real tokens on loopback."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis

from app.domain.administration import AuditQuery
from app.domain.limits import Limits
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway
from tests.oidc import (
    Claims,
    Provider,
    SigningKey,
    open_provider,
    settings_for,
    sign_with_secret,
    signing_input,
)

LOGIN, CALLBACK, SESSION = "/v1/koi/oidc/login", "/v1/koi/oidc/callback", "/v1/koi/session"
OWN = {"sec-fetch-site": "same-origin"}
SESSION_COOKIE, LOGIN_COOKIE = "koi_session", "koi_sign_in"
DESIGNER: Claims = {"groups": ["designers", "others"]}


@pytest.fixture(scope="module")
def identity() -> Iterator[Provider]:
    with open_provider() as running:
        yield running


@pytest.fixture(scope="module")
def koi(
    engine: str,
    provider: Sandbox,
    identity: Provider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Koi]:
    """Without an admin key: operators come from the provider only."""
    with redis.Redis.from_url(engine) as client:
        client.flushall()
    provider.reset()
    options = settings_for(identity)
    with gateway(provider, engine, tmp_path_factory.mktemp("koi"), **options) as running:
        yield running


@pytest.fixture
def page(koi: Koi) -> Iterator[httpx.Client]:
    with browser(koi) as client:
        yield client


def browser(koi: Koi) -> httpx.Client:
    return httpx.Client(base_url=koi.url, headers=OWN, timeout=20)


def go_to_provider(page: httpx.Client) -> str:
    """From the button to the provider; where it sends the browser back."""
    sent = page.get(LOGIN)
    assert sent.status_code == 303, sent.text
    return str(httpx.get(sent.headers["location"]).headers["location"])


def sign_in(page: httpx.Client, identity: Provider, **claims: Any) -> httpx.Response:
    identity.reset(**claims)
    return page.get(go_to_provider(page))


def refusal(answer: httpx.Response) -> str:
    """Why nobody was signed in; there is no session."""
    assert answer.status_code == 303, answer.text
    assert not any(SESSION_COOKIE in one for one in answer.headers.get_list("set-cookie"))
    return str(answer.headers["location"]).rpartition("#/sign-in-failed/")[2]


def wait_until(check: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def actors(koi: Koi, kind: str) -> set[str]:
    async def read(operator: OperatorContext) -> set[str]:
        page = await operator.audit_log.page(AuditQuery(kinds=frozenset({kind})))
        return {record.actor for record in page.records}

    return koi.operate(read)


def test_a_member_is_made_a_user_and_does_what_a_holder_does(
    koi: Koi, page: httpx.Client, identity: Provider
) -> None:
    entered = sign_in(page, identity, email="ann@corp.example", **DESIGNER)

    assert entered.headers["location"] == f"{koi.url}/#/signed-in"
    session, login = entered.headers.get_list("set-cookie")
    assert session.startswith(f"{SESSION_COOKIE}=")
    assert "HttpOnly; SameSite=Strict" in session
    assert login == f"{LOGIN_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    told = page.get(SESSION).json()
    assert (told["role"], told["user"]) == ("holder", "ann@corp.example")
    assert "oidc:ann@corp.example" in actors(koi, "user.created")
    assert page.get("/v1/koi/account").json()["user"] == "ann@corp.example"
    assert page.post(GENERATE, json=KOI).status_code == 200
    assert page.get("/v1/tasks").json()["data"]
    assert page.get("/v1/koi/pictures").json()["data"]
    assert page.get("/v1/organization/users").status_code == 404
    key_id = page.get("/v1/usage").json()["key_id"]
    assert key_id.startswith("oidc_")
    koi.assert_ledger_matches_bill()


def test_a_member_manages_their_keys_within_what_holders_may(
    koi: Koi, page: httpx.Client, identity: Provider
) -> None:
    secret = koi.key("kay@corp.example")
    sign_in(page, identity, email="kay@corp.example", **DESIGNER)

    (key,) = page.get("/v1/koi/keys").json()["data"]
    rotated = page.post(f"/v1/koi/keys/{key['id']}/rotate", json={})
    assert rotated.status_code == 200, rotated.text
    assert "oidc:kay@corp.example" in actors(koi, "key.rotated")
    refused = page.post("/v1/koi/keys", json={"name": "more"})
    assert refused.json()["error"]["code"] == "not_allowed"
    assert secret != rotated.json()["value"]


def test_an_operator_has_the_scopes_of_the_mapping(
    koi: Koi, page: httpx.Client, identity: Provider
) -> None:
    sign_in(page, identity, email="olga@corp.example", groups=["ops", "designers"])
    told = page.get(SESSION).json()
    assert (told["role"], told["scopes"]) == ("operator", ["all"])
    made = page.post("/v1/organization/projects", json={"name": "atelier"})
    assert made.status_code == 200, made.text
    assert actors(koi, "team.created") == {"oidc:olga@corp.example"}
    assert page.get("/v1/usage").status_code == 401

    with browser(koi) as other:
        sign_in(other, identity, email="aud@corp.example", groups="auditors")
        assert other.get(SESSION).json()["scopes"] == ["read"]
        assert other.get("/v1/organization/projects").status_code == 200
        refused = other.post("/v1/organization/projects", json={"name": "mine"})
        assert refused.json()["error"]["code"] == "insufficient_permissions"


def test_a_team_admin_administers_the_team_that_their_user_is_in(
    koi: Koi, page: httpx.Client, identity: Provider
) -> None:
    async def make_team(operator: OperatorContext) -> None:
        await operator.keys.create_team("design", Limits(images_per_day=10))
        await operator.keys.create_user("tess@corp.example", team="design")
        await operator.keys.create_user("outsider")

    koi.operate(make_team)
    claims = {"email": "tess@corp.example", "groups": ["leads", "designers"]}
    sign_in(page, identity, **claims)
    told = page.get(SESSION).json()
    assert (told["role"], told["team"]) == ("operator", "design")
    assert told["scopes"] == ["money", "people", "read"]
    users = page.get("/v1/organization/users").json()["data"]
    assert [user["id"] for user in users] == ["tess@corp.example"]
    assert page.post("/v1/koi/users", json={"name": "ned"}).status_code == 200
    assert page.post("/v1/organization/projects", json={"name": "mine"}).status_code == 403
    assert "oidc:tess@corp.example" in actors(koi, "user.created")

    async def move_out(operator: OperatorContext) -> None:
        await operator.keys.move_user("tess@corp.example", None)

    koi.operate(move_out)
    wait_until(lambda: page.get("/v1/organization/users").status_code == 401)
    with browser(koi) as other:
        assert refusal(sign_in(other, identity, **claims)) == "no_role"


def test_no_record_of_a_team_keeps_an_operator_out(
    koi: Koi, page: httpx.Client, identity: Provider
) -> None:
    async def make_namesakes(operator: OperatorContext) -> None:
        await operator.keys.create_team("plotters", Limits())
        await operator.keys.create_user("opal@corp.example", team="plotters")
        await operator.keys.disable_user("opal@corp.example", disabled=True)
        await operator.keys.create_service_account("odin@corp.example", "plotters")

    koi.operate(make_namesakes)
    for name in ("opal@corp.example", "odin@corp.example"):
        sign_in(page, identity, email=name, groups=["ops"])
        assert page.get("/v1/organization/users").status_code == 200, name
    with browser(koi) as other:
        member = sign_in(other, identity, email="opal@corp.example", **DESIGNER)
        assert refusal(member) == "disabled"


BAD_CLAIMS: dict[str, Claims] = {
    "wrong nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "wrong audience": {"aud": "another"},
    "several audiences and no party": {"aud": ["koi", "another"]},
    "another party": {"azp": "another"},
    "another issuer": {"iss": "http://127.0.0.1:1"},
    "expired": {"exp": int(time.time()) - 1},
    "no expiry": {"exp": None},
    "not yet valid": {"nbf": int(time.time()) + 3600},
}


@pytest.mark.parametrize("claims", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_a_token_that_is_not_for_this_sign_in_lets_nobody_in(
    page: httpx.Client, identity: Provider, claims: Claims
) -> None:
    entered = sign_in(page, identity, email="mal@corp.example", groups=["ops"], **claims)
    assert refusal(entered) == "rejected"
    assert page.get(SESSION).status_code == 401


FORGERIES: dict[str, Callable[[Provider, Claims], str]] = {
    "algorithm none": lambda _, claims: f"{signing_input(claims, alg='none', kid='first')}.",
    "no algorithm": lambda _, claims: f"{signing_input(claims, kid='first')}.",
    "HS256 with the public key": lambda provider, claims: sign_with_secret(
        claims, provider.key.public_pem, kid="first"
    ),
    "HS256 with an oct key of the set": lambda _, claims: sign_with_secret(claims, b"x"),
    "another key of the same name": lambda _, claims: SigningKey("first").sign(claims),
    "another key": lambda _, claims: SigningKey("second").sign(claims),
    "a key that the token brings": lambda _, claims: (own := SigningKey("first")).sign(
        claims, jwk=own.jwk
    ),
    "no token": lambda *_: "",
    "no JSON": lambda *_: "a.b.c",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(
    page: httpx.Client, identity: Provider, forge: Callable[[Provider, Claims], str]
) -> None:
    identity.reset(email="mal@corp.example", groups=["ops"])
    identity.sign = lambda claims: forge(identity, claims)
    assert refusal(page.get(go_to_provider(page))) == "rejected"
    assert page.get(SESSION).status_code == 401


def test_the_providers_new_key_is_learnt_from_the_first_token(
    koi: Koi, provider: Sandbox, engine: str, identity: Provider
) -> None:
    """A gateway of its own: each asks for unknown keys once in a while only."""
    options = settings_for(identity)
    old = identity.key
    with gateway(provider, engine, koi.settings.data_dir, **options) as fresh:
        try:
            with browser(fresh) as page:
                sign_in(page, identity, email="ann@corp.example", **DESIGNER)
                identity.key = SigningKey("next")
                entered = sign_in(page, identity, email="ann@corp.example", **DESIGNER)
                assert entered.headers["location"].endswith("#/signed-in")
                asked = identity.key_requests
                identity.sign = SigningKey("guess").sign
                for _ in range(3):
                    assert refusal(page.get(go_to_provider(page))) == "rejected"
                assert identity.key_requests == asked
        finally:
            identity.key = old


def test_the_way_back_counts_once_and_in_the_browser_that_began(
    koi: Koi, page: httpx.Client, identity: Provider
) -> None:
    identity.reset(email="ann@corp.example", **DESIGNER)
    back = go_to_provider(page)
    cookie = {"cookie": f"{LOGIN_COOKIE}={page.cookies[LOGIN_COOKIE]}"}
    with browser(koi) as stranger:
        assert refusal(stranger.get(back)) == "expired"
        go_to_provider(stranger)
        assert refusal(stranger.get(back)) == "expired"
    assert page.get(back).headers["location"].endswith("#/signed-in")

    assert refusal(page.get(back)) == "expired"
    assert refusal(httpx.get(back, headers=cookie)) == "rejected"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda back: back.replace("state=", "state=x"), "expired"),
        (lambda back: f"{back}&state=x", "rejected"),
        (lambda back: f"{back}&code=x", "rejected"),
        (lambda back: back.replace("iss=", "iss=x"), "rejected"),
        (lambda back: back.replace("code=", "other="), "rejected"),
        (lambda back: f"{back}&error=access_denied", "cancelled"),
    ],
)
def test_what_comes_back_changed_asks_the_provider_nothing(
    page: httpx.Client, identity: Provider, change: Callable[[str], str], code: str
) -> None:
    identity.reset(email="ann@corp.example", **DESIGNER)
    back, asked = go_to_provider(page), identity.token_requests
    assert refusal(page.get(change(back))) == code
    assert identity.token_requests == asked


def test_a_cookie_that_is_not_ours_begins_nothing(koi: Koi, identity: Provider) -> None:
    identity.reset(email="ann@corp.example", **DESIGNER)
    with browser(koi) as page:
        back = go_to_provider(page)
        begun, random, signature = page.cookies[LOGIN_COOKIE].split(".")
    for cookie in (
        f"{int(begun) + 1}.{random}.{signature}",
        f"{begun}.{'A' * 43}.{signature}",
        f"{begun}.{random}.{signature}; {LOGIN_COOKIE}={begun}.{'A' * 43}.{signature}",
    ):
        headers = {"cookie": f"{LOGIN_COOKIE}={cookie}"}
        assert refusal(httpx.get(back, headers=headers)) == "expired"


def test_nothing_in_a_request_says_where_to_go(
    koi: Koi, page: httpx.Client, identity: Provider
) -> None:
    evil = {"next": "https://evil.example", "redirect_uri": "https://evil.example"}
    host = {"host": "evil.example", "x-forwarded-host": "evil.example"}
    sent = page.get(LOGIN, params=evil, headers=host)
    assert sent.headers["location"].startswith(f"{identity.url}/authorize?tenant=1&")
    assert "evil" not in sent.headers["location"]
    identity.reset(email="ann@corp.example", **DESIGNER)
    back = httpx.get(sent.headers["location"]).headers["location"]
    entered = page.get(f"{back}&next=https://evil.example", headers=host)
    assert entered.headers["location"] == f"{koi.url}/#/signed-in"


def test_another_page_begins_no_sign_in(koi: Koi) -> None:
    for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
        assert httpx.get(f"{koi.url}{LOGIN}", headers=headers).status_code == 403
    for headers in ({"sec-fetch-site": "none"}, {}):
        assert httpx.get(f"{koi.url}{LOGIN}", headers=headers).status_code == 303


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"email": "eve@corp.example", "email_verified": False, **DESIGNER}, "no_name"),
        ({"email": "eve@corp.example", "email_verified": "true", **DESIGNER}, "no_name"),
        ({**DESIGNER}, "no_name"),
        ({"email": "eve corp\n", **DESIGNER}, "no_name"),
        ({"email": "eve@corp.example"}, "no_role"),
        ({"email": "eve@corp.example", "groups": "designers-x"}, "no_role"),
        ({"email": "eve@corp.example", "groups": {"designers": True}}, "no_role"),
    ],
)
def test_who_has_no_verified_name_or_no_role_stays_out(
    page: httpx.Client, identity: Provider, claims: Claims, code: str
) -> None:
    assert refusal(sign_in(page, identity, **claims)) == code


def test_disabling_or_deleting_the_user_ends_the_session(
    koi: Koi, page: httpx.Client, identity: Provider
) -> None:
    claims = {"email": "dan@corp.example", **DESIGNER}
    sign_in(page, identity, **claims)
    assert page.get(SESSION).status_code == 200
    koi.operate(lambda operator: operator.keys.disable_user(claims["email"], disabled=True))
    wait_until(lambda: page.get(SESSION).status_code == 401)
    assert refusal(sign_in(page, identity, **claims)) == "disabled"

    koi.operate(lambda operator: operator.keys.disable_user(claims["email"], disabled=False))
    sign_in(page, identity, **claims)
    wait_until(lambda: page.get(SESSION).status_code == 200)
    koi.operate(lambda operator: operator.keys.delete_user(claims["email"]))
    assert refusal(sign_in(page, identity, **claims)) == "disabled"
    koi.key(claims["email"])
    wait_until(lambda: page.get(SESSION).status_code == 401)


def test_disabling_a_user_of_an_operators_name_ends_their_session(
    koi: Koi, page: httpx.Client, identity: Provider
) -> None:
    sign_in(page, identity, email="opa@corp.example", groups="ops")
    assert page.get("/v1/organization/projects").status_code == 200
    koi.key("opa@corp.example")
    koi.operate(lambda operator: operator.keys.disable_user("opa@corp.example", disabled=True))
    wait_until(lambda: page.get("/v1/organization/projects").status_code == 401)


def test_sign_out_ends_the_session(page: httpx.Client, identity: Provider) -> None:
    sign_in(page, identity, email="ann@corp.example", **DESIGNER)
    cookie = {"cookie": f"{SESSION_COOKIE}={page.cookies[SESSION_COOKIE]}"}
    assert page.delete(SESSION).status_code == 200
    assert page.get(SESSION, headers=cookie).status_code == 401


def test_other_settings_end_sessions_and_let_only_known_users_in(
    koi: Koi, provider: Sandbox, engine: str, identity: Provider
) -> None:
    options = settings_for(identity, oidc_create=False, oidc_roles="groups:designers=member")
    with gateway(provider, engine, koi.settings.data_dir, **options) as other:
        with browser(koi) as page:
            sign_in(page, identity, email="ann@corp.example", **DESIGNER)
            token = {"cookie": f"{SESSION_COOKIE}={page.cookies[SESSION_COOKIE]}"}
            assert page.get(SESSION).status_code == 200
            sign_in(page, identity, email="olga@corp.example", groups="ops")
            admin = {"cookie": f"{SESSION_COOKIE}={page.cookies[SESSION_COOKIE]}"}
        for cookie in (token, admin):
            assert httpx.get(f"{other.url}{SESSION}", headers=cookie).status_code == 401
        projects = f"{other.url}/v1/organization/projects"
        assert httpx.get(projects, headers=admin).status_code == 401
        with browser(other) as page:
            assert refusal(sign_in(page, identity, email="new@corp.example", **DESIGNER)) == (
                "unknown"
            )


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "http://127.0.0.1:1"},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": None},
    ],
)
def test_a_provider_that_contradicts_itself_is_not_used(
    koi: Koi, provider: Sandbox, engine: str, identity: Provider, discovery: Claims
) -> None:
    options = settings_for(identity)
    identity.reset()
    identity.discovery = discovery
    with gateway(provider, engine, koi.settings.data_dir, **options) as odd:
        answer = httpx.get(f"{odd.url}{LOGIN}")
    assert refusal(answer) == "unavailable"


def test_what_signs_people_in_is_imported_only_where_it_is_configured() -> None:
    code = "import sys, app.wiring.gateway, app.main; sys.exit('joserfc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
