"""Who calls: a key from the headers, and the principal behind it."""

import hashlib
import hmac
import re

from starlette.requests import Request

from app.api.errors import unknown_url
from app.api.running import edge, exchange, running
from app.domain.errors import AdminKeyRequired, InvalidApiKey, InvalidRequest
from app.domain.principal import Principal

FROM_ELSEWHERE = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "via", "origin"})
KEY = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)


async def caller(request: Request) -> Principal:
    """The principal of this request; raises `InvalidApiKey`, in the same words for every fault."""
    principal = await running(request).gateway.identify(credential(request))
    record = exchange(request)
    record.user, record.key_id = principal.user, principal.key_id
    return principal


async def require_admin(request: Request) -> None:
    """Lets the admin key through. Without one the routes do not exist; a user's key is told so."""
    admin_key = edge(request).admin_key
    if admin_key is None:
        raise unknown_url()
    secret = credential(request)
    if same(secret, admin_key):
        return
    await caller(request)
    raise AdminKeyRequired("This route needs the admin key.")


def require_scraper(request: Request) -> None:
    """Lets the metrics token or the admin key through; anyone when bound to loopback only, unless
    a proxy or a web page is behind the request: those are not of this machine."""
    settings = edge(request)
    if settings.loopback_only and FROM_ELSEWHERE.isdisjoint(request.headers.keys()):
        return
    secret = credential(request)
    known = (settings.metrics_token, settings.admin_key)
    if not any(same(secret, one) for one in known if one is not None):
        raise InvalidApiKey


def credential(request: Request) -> str:
    """The key's text from `Authorization: Bearer`, `api-key` or `x-api-key`."""
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        raise InvalidRequest("duplicate_header", "Send one Authorization header.")
    if given:
        scheme, _, secret = given[0].partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidApiKey
    else:
        headers = request.headers
        secret = headers.get("api-key") or headers.get("x-api-key") or ""
    if KEY.fullmatch(secret) is None:
        raise InvalidApiKey
    return secret


def same(secret: str, known: bytes) -> bool:
    """Equal, in a time that tells nothing: digests, because bytes of any length are compared."""
    return hmac.compare_digest(
        hashlib.sha256(secret.encode()).digest(), hashlib.sha256(known).digest()
    )
