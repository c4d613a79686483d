"""What a caller asks for in request headers. Where the RFCs say so, nonsense is ignored."""

import math
import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from app.api.settings import EdgeSettings
from app.domain.cache import CacheControl
from app.domain.errors import InvalidRequest

IDEMPOTENCY_KEY_FORMAT = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
WHOLE_SECONDS = re.compile(r"[0-9]{1,10}", re.ASCII)
TIMEOUT_HEADERS = ("x-stainless-read-timeout", "x-stainless-timeout")
DEFAULT_WAIT_S = 600.0
"""Longest wait when neither the operator nor the caller sets another: the default timeout of the
official SDKs."""
ANSWER_MARGIN_S = 2.0
"""How long before its own timeout a client gets an answer, at most half of that timeout."""

MIN_HEARTBEAT_INTERVAL_S = 0.1
"""Shortest pause between heartbeats, however short a timeout the client announces."""


@dataclass(frozen=True, slots=True)
class WaitPlan:
    """How a caller is kept waiting, in seconds.

    `wait_s` is the longest wait for the job. `silence_s` is how long nothing is sent (None: all
    the time), `heartbeat_interval_s` the pause between two heartbeats after that.
    """

    wait_s: float
    silence_s: float | None
    heartbeat_interval_s: float


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """Request controls of a generation.

    `is_sdk_retry`: the SDK says that this is a repeat. `client_timeout_s`: how long the client
    itself will wait, when it says so.
    """

    idempotency_key: str | None
    is_sdk_retry: bool
    cache: CacheControl
    client_timeout_s: float | None

    def plan_wait(self, settings: EdgeSettings) -> WaitPlan:
        """How to keep this caller waiting.

        With heartbeats the wait may be longer than the timeout that the client announced, because
        a read timeout starts again with each byte; a client that hangs up earlier is noticed.
        Without heartbeats the answer must come just before the client's own timeout.
        """
        max_wait_s = settings.sync_wait_s or DEFAULT_WAIT_S
        heartbeat_interval_s = max(
            self._cap_to_half_timeout(settings.heartbeat_interval_s), MIN_HEARTBEAT_INTERVAL_S
        )
        if settings.heartbeat_after_s > 0:
            if settings.sync_wait_s is None:
                max_wait_s = max(max_wait_s, self.client_timeout_s or 0.0)
            return WaitPlan(
                max_wait_s,
                self._cap_to_half_timeout(settings.heartbeat_after_s),
                heartbeat_interval_s,
            )
        if self.client_timeout_s is not None:
            max_wait_s = min(
                max_wait_s, max(self.client_timeout_s - ANSWER_MARGIN_S, self.client_timeout_s / 2)
            )
        return WaitPlan(max_wait_s, None, heartbeat_interval_s)

    def concurrency_wait_s(self, settings: EdgeSettings) -> float:
        """How long to wait for a concurrency slot. No heartbeats are sent meanwhile."""
        return self._cap_to_half_timeout(settings.concurrency_wait_s)

    def _cap_to_half_timeout(self, max_s: float) -> float:
        """At most half of the client's own timeout."""
        if self.client_timeout_s is None:
            return max_s
        return min(max_s, self.client_timeout_s / 2)


def parse_request_headers(headers: Headers) -> RequestHeaders:
    """Raises `InvalidRequest` for a malformed Idempotency-Key; ignores other nonsense."""
    return RequestHeaders(
        idempotency_key=parse_idempotency_key(headers),
        is_sdk_retry=_is_retry(headers.get("x-stainless-retry-count", "")),
        cache=parse_cache_control(headers.getlist("cache-control")),
        client_timeout_s=_parse_timeout(headers),
    )


def parse_cache_control(values: list[str]) -> CacheControl:
    """RFC 9111, section 5.2.1; unknown directives and malformed values are ignored."""
    if not values:
        return CacheControl()
    directives: dict[str, str] = {}
    for directive in ",".join(values).split(","):
        name, _, value = directive.partition("=")
        directives.setdefault(name.strip().lower(), value.strip().strip('"'))
    age = directives.get("max-age", "")
    return CacheControl(
        no_cache="no-cache" in directives,
        no_store="no-store" in directives,
        max_age_s=int(age) if WHOLE_SECONDS.fullmatch(age) else None,
        only_if_cached="only-if-cached" in directives,
    )


def parse_idempotency_key(headers: Headers) -> str | None:
    """Raises `InvalidRequest` for a malformed one."""
    keys = headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or IDEMPOTENCY_KEY_FORMAT.fullmatch(keys[0]) is None:
        raise InvalidRequest(
            "invalid_idempotency_key",
            "Idempotency-Key must be sent once and be 1 to 255 visible ASCII characters.",
        )
    return keys[0]


def _is_retry(count: str) -> bool:
    return WHOLE_SECONDS.fullmatch(count) is not None and int(count) > 0


def _parse_timeout(headers: Headers) -> float | None:
    shortest = None
    for name in TIMEOUT_HEADERS:
        seconds = _parse_positive(headers.get(name))
        if seconds is not None and (shortest is None or seconds < shortest):
            shortest = seconds
    return shortest


def _parse_positive(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
