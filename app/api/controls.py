"""What a caller asks for in request headers, read tolerantly where the RFCs say so."""

import math
import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from app.api.settings import EdgeSettings
from app.domain.errors import InvalidRequest
from app.domain.recall import CacheControl

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
SECONDS = re.compile(r"[0-9]{1,10}", re.ASCII)
TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")
USUAL_WAIT_S = 600.0
"""The wait of a caller who announces nothing longer, unless the operator sets a limit: as long as
the official SDKs wait by default."""
ANSWER_S = 2.0
"""How long before a client's own timeout it gets an answer, half of it at most."""

SHORTEST_BEAT_S = 0.1
"""No announced timeout, however absurd, is answered with more heartbeats than this."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How a caller is kept waiting, in seconds.

    `wait_s` is the longest wait for the job, `quiet_s` how much of it passes in silence (None: all
    of it), `beat_s` the longest pause between two signs of life afterwards.
    """

    wait_s: float
    quiet_s: float | None
    beat_s: float


@dataclass(frozen=True, slots=True)
class Controls:
    """Request controls of a generation.

    `marked`: the SDK says this is a repeat. `client_timeout_s`: how long the client itself will
    wait, when it says so (openai-compat study, section 2).
    """

    idempotency_key: str | None
    marked: bool
    cache: CacheControl
    client_timeout_s: float | None

    def patience(self, settings: EdgeSettings) -> Patience:
        """How to keep this caller waiting.

        With heartbeats a client's read timeout starts anew with each byte, so that the wait may be
        longer than what it announced; who hangs up earlier is noticed. In silence the answer comes
        just before the client's own timeout.
        """
        most_s = settings.sync_wait_s or USUAL_WAIT_S
        beat_s = max(self._half(settings.beat_s), SHORTEST_BEAT_S)
        if settings.heartbeat_after_s > 0:
            if settings.sync_wait_s is None:
                most_s = max(most_s, self.client_timeout_s or 0.0)
            return Patience(most_s, self._half(settings.heartbeat_after_s), beat_s)
        if self.client_timeout_s is not None:
            most_s = min(most_s, max(self.client_timeout_s - ANSWER_S, self.client_timeout_s / 2))
        return Patience(most_s, None, beat_s)

    def slot_wait_s(self, settings: EdgeSettings) -> float:
        """How long to wait for a concurrency slot: no heartbeats are sent meanwhile."""
        return self._half(settings.concurrency_wait_s)

    def _half(self, longest_s: float) -> float:
        """At most half of the client's own timeout."""
        if self.client_timeout_s is None:
            return longest_s
        return min(longest_s, self.client_timeout_s / 2)


def read_controls(headers: Headers) -> Controls:
    """Raises `InvalidRequest` for a malformed Idempotency-Key; ignores other nonsense."""
    return Controls(
        idempotency_key=_idempotency_key(headers),
        marked=_repeats(headers.get("x-stainless-retry-count", "")),
        cache=cache_control(headers.getlist("cache-control")),
        client_timeout_s=_timeout(headers),
    )


def cache_control(values: list[str]) -> CacheControl:
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
        max_age_s=int(age) if SECONDS.fullmatch(age) else None,
        only_if_cached="only-if-cached" in directives,
    )


def _idempotency_key(headers: Headers) -> str | None:
    keys = headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or IDEMPOTENCY_KEY.fullmatch(keys[0]) is None:
        raise InvalidRequest(
            "invalid_idempotency_key",
            "Idempotency-Key must be sent once and be 1 to 255 visible ASCII characters.",
        )
    return keys[0]


def _repeats(count: str) -> bool:
    return SECONDS.fullmatch(count) is not None and int(count) > 0


def _timeout(headers: Headers) -> float | None:
    announced = [_positive(headers.get(name, "")) for name in TIMEOUTS]
    return min((seconds for seconds in announced if seconds is not None), default=None)


def _positive(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
