"""For whom Open WebUI asks: its user headers, or the same signed.

With ENABLE_FORWARD_USER_INFO_HEADERS it sends X-OpenWebUI-User-Id, -Name, -Email and -Role. With
FORWARD_USER_INFO_HEADER_JWT_SECRET it sends X-OpenWebUI-User-Jwt instead, an HS256 token: `sub`,
`email`, `name`, `role`, `iss` "open-webui", `iat` and `exp` (open_webui/utils/headers.py, 0.11).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import orjson

from app.api.settings import EdgeSettings

ID, EMAIL, TOKEN = b"x-openwebui-user-id", b"x-openwebui-user-email", b"x-openwebui-user-jwt"
USER_HEADERS = (ID, EMAIL, TOKEN)
ISSUER = "open-webui"
MAX_TOKEN_BYTES = 4096
CLOCK_SKEW_S = 60
"""How far the clocks of both machines may be apart."""


def find_forwarded_user(headers: Mapping[bytes, bytes], settings: EdgeSettings) -> str | None:
    """The id or address of the user, as Koi is set to keep it; with a secret only from a token that
    it signed. Never the name or the role."""
    secret, kind = settings.openwebui_secret, settings.openwebui_user
    if secret is None:
        return decode_header(headers.get(ID if kind == "id" else EMAIL, b"")) or None
    claims = verify_token(headers.get(TOKEN, b""), secret, settings.now())
    user = claims.get("sub" if kind == "id" else "email")
    return user if isinstance(user, str) and user else None


def decode_header(value: bytes) -> str | None:
    """A header in UTF-8, which ASCII is part of; None for other bytes."""
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        return None


def verify_token(token: bytes, secret: bytes, now_s: float) -> Mapping[str, Any]:
    """The claims of an HS256 token (RFC 7515, RFC 7519) that Open WebUI signed and that is valid
    now; none of any other."""
    signed, _, signature = token.rpartition(b".")
    if len(token) > MAX_TOKEN_BYTES or signed.count(b".") != 1:
        return {}
    expected = hmac.new(secret, signed, hashlib.sha256).digest()
    if not hmac.compare_digest(expected, _decode_base64url(signature)):
        return {}
    header, claims = (_read_object(part) for part in signed.split(b"."))
    # What the header asks for is not obeyed; a token that asks for something else is refused.
    if header.get("alg") != "HS256" or "crit" in header or claims.get("iss") != ISSUER:
        return {}
    return claims if _is_current(claims, now_s) else {}


def _is_current(claims: Mapping[str, Any], now_s: float) -> bool:
    begins, ends = claims.get("iat"), claims.get("exp")
    if not isinstance(begins, int) or not isinstance(ends, int):
        return False
    return begins - CLOCK_SKEW_S <= now_s < ends + CLOCK_SKEW_S


def _read_object(part: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(_decode_base64url(part))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _decode_base64url(part: bytes) -> bytes:
    """Base64url without padding; empty for anything else."""
    try:
        return base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
