"""Cross-origin rules (Fetch standard): bearer keys only, cookies never."""

import re
from collections.abc import Sequence

from starlette.types import Scope

RawHeaders = list[tuple[bytes, bytes]]

ANY = "*"
METHODS = b"GET, HEAD, POST, DELETE, OPTIONS"
USUAL_HEADERS = b"accept, api-key, authorization, cache-control, content-type, idempotency-key"
EXPOSED = b", ".join(
    name.encode()
    for name in (
        "age", "cache-status", "ratelimit", "ratelimit-policy", "retry-after", "retry-after-ms",
        "x-koi-adjusted", "x-koi-cache", "x-koi-task-id", "x-ratelimit-limit-images",
        "x-ratelimit-limit-requests", "x-ratelimit-remaining-images",
        "x-ratelimit-remaining-requests", "x-ratelimit-reset-images",
        "x-ratelimit-reset-requests", "x-request-id", "x-should-retry",
    )
)  # fmt: skip
NAMES = re.compile(rb"[A-Za-z0-9_\-, ]{1,2048}")
A_DAY = b"86400"


def allowed(origin: bytes | None, origins: Sequence[str]) -> RawHeaders:
    """The headers that let a page of this origin read an answer; nothing for strangers."""
    if origin is None:
        return []
    if ANY in origins:
        shown: RawHeaders = [(b"access-control-allow-origin", b"*")]
    elif origin.decode("latin-1") in origins:
        shown = [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
    else:
        return [(b"vary", b"origin")]
    return [*shown, (b"access-control-expose-headers", EXPOSED)]


def is_preflight(scope: Scope) -> bool:
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names


def preflight(scope: Scope) -> RawHeaders:
    """Allow whatever headers are asked for: SDKs add to their list with every release."""
    given = dict(scope["headers"])
    asked = given.get(b"access-control-request-headers", b"")
    headers: RawHeaders = [
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", asked if NAMES.fullmatch(asked) else USUAL_HEADERS),
        (b"access-control-max-age", A_DAY),
        (b"vary", b"access-control-request-headers"),
    ]
    if given.get(b"access-control-request-private-network") == b"true":
        headers.append((b"access-control-allow-private-network", b"true"))
    return headers
