"""Who calls: a key from the headers, and the principal behind it."""

import hashlib
import hmac
import re

from starlette.requests import Request

from app.api.errors import unknown_url_error
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.errors import AdminKeyRequired, InvalidApiKey, InvalidRequest
from app.domain.principal import Principal

PROXY_HEADERS = re.compile(
    r"forwarded|via|origin|referer|x-forwarded-.*|x-real-ip|x-client-ip|x-cluster-client-ip"
    r"|x-original-.*|x-envoy-.*|true-client-ip|fastly-.*|cf-.*|cdn-loop|sec-fetch-site"
)
"""Headers that a proxy or a web page puts on a request, and a scraper on this machine does not."""
LOOPBACK_HOST = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?")
API_KEY_FORMAT = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)


async def authenticate_request(request: Request) -> Principal:
    """The principal of this request; raises `InvalidApiKey`, in the same words for every fault
    (the access line alone tells which, and of which key), and `RateLimited` when the key comes
    faster than this process lets any key come."""
    gateway = get_app_state(request).gateway
    record = get_access_record(request)
    principal = await gateway.authenticate(extract_api_key(request))
    record.user, record.key_id = principal.user, principal.key_id
    await gateway.rate_limiter.check_rate_limit(principal)
    if request.method in ("GET", "HEAD"):
        await gateway.rate_limiter.read(principal)
    return principal


async def require_admin(request: Request) -> None:
    """Lets the admin key through. Without one the routes do not exist; a user's key is told so."""
    admin_key = get_edge_settings(request).admin_key
    if admin_key is None:
        raise unknown_url_error()
    secret = extract_api_key(request)
    if equal_in_constant_time(secret, admin_key):
        return
    await authenticate_request(request)
    raise AdminKeyRequired("This route needs the admin key.")


def require_scraper(request: Request) -> None:
    """Lets the metrics token or the admin key through; anyone when bound to loopback only, unless
    a proxy or a web page is behind the request: those are not of this machine. A page that was
    led here by its own name (DNS rebinding) is told by its Host."""
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
        # SDKs send two spaces for a key that was pasted with a blank before it.
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
    """Equal, in a time that tells nothing: digests, because bytes of any length are compared."""
    return hmac.compare_digest(
        hashlib.sha256(secret.encode()).digest(), hashlib.sha256(known).digest()
    )
