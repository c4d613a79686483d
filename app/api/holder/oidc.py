"""/v1/koi/oidc: the way to the OpenID provider and back. Both answers are redirects: a person is
reading, and the page has the words for what went wrong."""

import hmac

import structlog
from starlette.requests import Request
from starlette.responses import Response

from app.api.cookie import (
    build_cookie,
    build_login_cookie,
    is_foreign,
    read_login_cookie,
)
from app.api.errors import unknown_url_error
from app.api.response_body import get_public_origin
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.errors import LedgerUnavailable
from app.domain.session import CrossOriginRefused
from app.domain.sign_in import LoginSecrets, SignInRefused
from app.service.sign_in import SignIn

CALLBACK = "/v1/koi/oidc/callback"
MAX_CODE_CHARS = 4096
log = structlog.get_logger()


async def login(request: Request) -> Response:
    """Sends a browser to the OpenID provider. Only a page of ours, or who opens the address, begins
    a sign-in."""
    sign_in = _require_sign_in(request)
    if is_foreign(request) and request.headers.get("sec-fetch-site") != "none":
        raise CrossOriginRefused
    cookie = sign_in.cookies.issue()
    try:
        url = await sign_in.begin(sign_in.cookies.open(cookie), _redirect_uri(request))
    except SignInRefused as error:
        return _refuse(request, error)
    return _redirect(url, build_login_cookie(request, cookie))


async def callback(request: Request) -> Response:
    """Where the provider sends the browser back: a session, and the page. Nothing that comes with
    the request says where to go next."""
    sign_in = _require_sign_in(request)
    try:
        secrets = sign_in.cookies.open(read_login_cookie(request))
        code = _read_code(request, secrets, sign_in.issuer)
        opened = await sign_in.finish(code, secrets, _redirect_uri(request))
    except SignInRefused as error:
        return _refuse(request, error)
    except LedgerUnavailable:
        return _refuse(request, SignInRefused("unavailable", "the store is away"))
    get_access_record(request).user = opened.user
    where = f"{get_public_origin(request)}/#/signed-in"
    return _redirect(where, build_cookie(request, opened.token), build_login_cookie(request, ""))


def _require_sign_in(request: Request) -> SignIn:
    sign_in = get_app_state(request).gateway.sign_in
    if sign_in is None or not get_edge_settings(request).console:
        raise unknown_url_error()
    return sign_in


def _redirect_uri(request: Request) -> str:
    return f"{get_public_origin(request)}{CALLBACK}"


def _read_code(request: Request, secrets: LoginSecrets, issuer: str) -> str:
    """The code of this browser's own sign-in, from this provider (RFC 9207). Each parameter comes
    once (RFC 6749, section 3.1)."""
    query = request.query_params
    given = {name: query.getlist(name) for name in ("state", "code", "error", "iss")}
    if any(len(values) > 1 for values in given.values()):
        raise SignInRefused("rejected", "a parameter is given more than once")
    state = query.get("state", "")
    if not hmac.compare_digest(state.encode(), secrets.state.encode()):
        raise SignInRefused("expired", "the state of another sign-in")
    if query.get("iss", issuer) != issuer:
        raise SignInRefused("rejected", "the answer of another provider")
    if "error" in query:
        raise SignInRefused("cancelled", "the provider answered with an error")
    code = query.get("code", "")
    if not 0 < len(code) <= MAX_CODE_CHARS:
        raise SignInRefused("rejected", "no code")
    return code


def _refuse(request: Request, error: SignInRefused) -> Response:
    get_access_record(request).reason = f"sign_in_{error.code}"
    log.warning("sign_in_refused", code=error.code, detail=error.detail)
    where = f"{get_public_origin(request)}/#/sign-in-failed/{error.code}"
    return _redirect(where, build_login_cookie(request, ""))


def _redirect(where: str, *cookies: str) -> Response:
    response = Response(
        None,
        303,
        {"location": where, "cache-control": "no-store", "referrer-policy": "no-referrer"},
    )
    for cookie in cookies:
        response.headers.append("set-cookie", cookie)
    return response
