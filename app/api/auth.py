"""Who calls: a key from the headers or a session cookie, and the principal behind it."""

import hashlib
import hmac
import re

from starlette.requests import Request

from app.api.cookie import find_session_token
from app.api.request_body import get_body_bytes
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.errors import InvalidApiKey, InvalidRequest
from app.domain.principal import Principal
from app.domain.secret_digest import digest_secret
from app.domain.session import Session, SessionRole

PROXY_HEADERS = re.compile(
    r"forwarded|via|origin|referer|x-forwarded-.*|x-real-ip|x-client-ip|x-cluster-client-ip"
    r"|x-original-.*|x-envoy-.*|true-client-ip|fastly-.*|cf-.*|cdn-loop|sec-fetch-site"
)
"""Headers that a proxy or a web page adds to a request. A scraper on this machine sends none."""
LOOPBACK_HOST = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?")
SESSION_ENDED = "session_ended"
API_KEY_FORMAT = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)


async def authenticate_request(request: Request) -> Principal:
    """The principal of this request.

    Raises `InvalidApiKey`, with one text for whatever is wrong with a key (the access line says
    what, and which key), `RateLimited` when the key sends more requests than this process allows
    any key, and `CrossOriginRefused`."""
    gateway = get_app_state(request).gateway
    record = get_access_record(request)
    principal = await find_principal(request)
    record.user, record.key_id = principal.user, principal.key_id
    await gateway.rate_limiter.check_rate_limit(principal, get_body_bytes(request))
    if request.method in ("GET", "HEAD"):
        await gateway.rate_limiter.check_read_rate(principal)
    return principal


async def find_principal(request: Request) -> Principal:
    """Who a request's key or session stands for now; counts nothing. What takes long asks again.

    Raises `InvalidApiKey`, `CrossOriginRefused`, `LedgerUnavailable`."""
    session = await find_session(request) if "cookie" in request.headers else None
    if session is None:
        return await get_app_state(request).gateway.authenticate(extract_api_key(request))
    return await find_session_principal(request, session)


async def find_session_principal(request: Request, session: Session) -> Principal:
    """Whose key a session stands for, or which member. An operator is no member, as an admin key is
    no user's. Raises `InvalidApiKey`, `ProjectArchived`, `LedgerUnavailable`."""
    gateway, person = get_app_state(request).gateway, session.person
    if person is None:
        return await gateway.authenticate.by_digest(session.key_digest)
    if gateway.sign_in is None:
        raise InvalidApiKey(SESSION_ENDED)
    if session.role is not SessionRole.HOLDER:
        raise InvalidApiKey("admin_session")
    return await gateway.sign_in.principal(person)


async def find_session(request: Request) -> Session | None:
    """The session of a request without a key; None when it has no cookie that counts, and where
    the page is off.

    Raises `InvalidApiKey` when the session has ended, `CrossOriginRefused`, `LedgerUnavailable`."""
    token = find_session_token(request) if get_edge_settings(request).console else None
    if token is None:
        return None
    session = await get_app_state(request).gateway.sessions.find(token)
    if session is None:
        raise InvalidApiKey(SESSION_ENDED)
    return session


def require_scraper(request: Request) -> None:
    """Lets the metrics token or the admin key through. When bound to loopback only, anyone on this
    machine may enter without: neither a proxy nor a web page, which speak for others. The Host
    header gives away a page that reached us by a name of its own (DNS rebinding)."""
    settings = get_edge_settings(request)
    if settings.loopback_only and _is_from_this_machine(request):
        return
    secret = extract_api_key(request)
    known = (settings.metrics_token, settings.admin_key)
    if not any(equal_in_constant_time(secret, one) for one in known if one is not None):
        raise InvalidApiKey("unknown")


def _is_from_this_machine(request: Request) -> bool:
    headers = request.headers
    return LOOPBACK_HOST.fullmatch(headers.get("host", "")) is not None and not any(
        PROXY_HEADERS.fullmatch(name) for name in headers
    )


def extract_api_key(request: Request) -> str:
    """The key's text from `Authorization: Bearer`, `api-key` or `x-api-key`."""
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        raise InvalidRequest("duplicate_header", "Send one Authorization header.")
    if given:
        # A key that was pasted with a blank before it arrives behind two spaces.
        scheme, _, secret = given[0].partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidApiKey("malformed")
        secret = secret.strip()
    else:
        headers = request.headers
        secret = headers.get("api-key") or headers.get("x-api-key") or ""
    if API_KEY_FORMAT.fullmatch(secret) is None:
        raise InvalidApiKey("malformed" if secret else "missing")
    return secret


def equal_in_constant_time(secret: str, known: bytes) -> bool:
    """Compare in a time that says nothing about either. Digests make both of one length."""
    return is_digest_of(digest_secret(secret), known)


def is_digest_of(digest: str, known: bytes) -> bool:
    """Whether a SHA-256 (hex) is that of a known secret."""
    return hmac.compare_digest(digest, hashlib.sha256(known).hexdigest())
