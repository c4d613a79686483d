"""The session cookie: its name, its attributes, and which requests it counts in.

A browser sends cookies whoever wrote the page, and to every port of a host. So the cookie counts
only in requests that the browser says came from this origin (Fetch metadata, and `Origin` where a
browser sends none because the address is plain http). `SameSite=Strict` is the second lock.
"""

import re
from urllib.parse import urlsplit

from starlette.requests import Request

from app.api.response_body import get_public_origin
from app.api.state import get_edge_settings
from app.domain.session import SESSION_LIFE_MS, CrossOriginRefused
from app.domain.sign_in import LOGIN_LIFE_S

COOKIE = "koi_session"
LOGIN_COOKIE = "koi_sign_in"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Browsers take it over TLS only, and from this very host (RFC 6265bis, section 4.1.3.2)."""
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
KEY_HEADERS = ("authorization", "api-key", "x-api-key")
SAFE_METHODS = frozenset({"GET", "HEAD"})
OWN_SITES = frozenset({"same-origin", "none"})
"""`none` is an address that a person typed or opened."""


def find_session_token(request: Request) -> str | None:
    """The token of the session cookie, when this request may use it: there is no API key, which
    would win, and it comes from our own page.

    Raises `CrossOriginRefused` for a write that another page sent; a read of another page is one
    without a cookie."""
    if "cookie" not in request.headers or has_key_header(request):
        return None
    token = _read_cookie(request, COOKIE)
    if TOKEN.fullmatch(token) is None:
        return None
    if request.method in SAFE_METHODS:
        site = request.headers.get("sec-fetch-site")
        return token if site is None or site in OWN_SITES else None
    if not is_same_origin(request):
        raise CrossOriginRefused
    return token


def has_key_header(request: Request) -> bool:
    return any(name in request.headers for name in KEY_HEADERS)


def is_same_origin(request: Request) -> bool:
    """Whether a browser says that a page of ours sent this. Without either header it does not."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and origin in _list_own_origins(request)


def is_foreign(request: Request) -> bool:
    """Whether a browser says that another page sent this. Programs say nothing."""
    says = "sec-fetch-site" in request.headers or "origin" in request.headers
    return says and not is_same_origin(request)


def build_cookie(request: Request, token: str) -> str:
    return _build_cookie(request, COOKIE, token, SESSION_LIFE_MS // 1000)


def build_expired_cookie(request: Request) -> str:
    """What makes the browser forget it."""
    return _build_cookie(request, COOKIE, "", 0)


def build_login_cookie(request: Request, value: str) -> str:
    """What ties a sign-in at the provider to this browser; an empty one ends it. Lax, since the
    provider sends the browser back; it proves who began a sign-in and nothing else."""
    return _build_cookie(request, LOGIN_COOKIE, value, LOGIN_LIFE_S if value else 0, "Lax")


def read_login_cookie(request: Request) -> str:
    """Empty when there is none."""
    return _read_cookie(request, LOGIN_COOKIE)


def _build_cookie(
    request: Request, name: str, value: str, life_s: int, same_site: str = "Strict"
) -> str:
    secure = "; Secure" if _is_secure(request) else ""
    named = f"{_name(request, name)}={value}"
    return f"{named}; Path=/; Max-Age={life_s}; HttpOnly; SameSite={same_site}{secure}"


def _is_secure(request: Request) -> bool:
    return get_public_origin(request).startswith("https:")


def _name(request: Request, name: str) -> str:
    return f"__Host-{name}" if _is_secure(request) else name


def _read_cookie(request: Request, wanted: str) -> str:
    """The one cookie of a name, or empty: of several, another host of the domain may have planted
    one."""
    found = set()
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == _name(request, wanted):
                found.add(value)
    return found.pop() if len(found) == 1 else ""


def _list_own_origins(request: Request) -> set[str]:
    """The configured one, and the one that the client used."""
    used = f"{request.scope['scheme']}://{request.headers.get('host', '')}"
    own = {used}
    if get_edge_settings(request).public_url is not None:
        parts = urlsplit(get_public_origin(request))
        own.add(f"{parts.scheme}://{parts.netloc}")
    return own
