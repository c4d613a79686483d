"""The provider's keys, its bill, and the rate limits of each key."""

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from types import MappingProxyType
from typing import TypeAlias

from app.sandbox.contract import Problem, Profile
from app.sandbox.switches import Switches

Headers: TypeAlias = tuple[tuple[str, str], ...]

GOOD_KEY = "sk-sandbox"
OTHER_GOOD_KEY = "sk-sandbox-second"
"""For whoever plays a second provider with it."""
_KEY_PROBLEMS: Mapping[str, Problem | None] = MappingProxyType(
    {
        GOOD_KEY: None,
        OTHER_GOOD_KEY: None,
        "sk-disabled": Problem(403, "app_disabled", "the application is disabled", "access_error"),
        "sk-nocapability": Problem(
            403, "model_not_allowed", "this key may not make images", "access_error"
        ),
        "sk-noscope": Problem(
            403, "model_not_allowed", "this model is not in the key's scope", "access_error"
        ),
        "sk-broke": Problem(
            402, "insufficient_balance", "the account balance is empty", "billing_error"
        ),
        "sk-budget": Problem(
            429, "insufficient_quota", "the key's daily budget is used up", "billing_error"
        ),
    }
)
KEYS: frozenset[str] = frozenset(_KEY_PROBLEMS)


@dataclass(frozen=True, slots=True)
class BillLine:
    """One accepted generation, in images: `billed`; `moderation_fee`, the part of them charged for
    a refusal; `refunded`, charged first and given back; `delivered`, sent in a reply while the
    client was still connected. Each was made with so many `references`."""

    request_id: str
    key: str
    model: str
    n: int
    delivered: int
    billed: int
    moderation_fee: int
    created: int
    quality: str = "standard"
    refunded: int = 0
    references: int = 0


def key_problem(key: str, profile: Profile, switches: Switches, buying: bool) -> Problem | None:
    """Why this key is refused, or None. Reading (`buying` False) needs any valid key."""
    if key not in _KEY_PROBLEMS:
        message = "Incorrect API key provided"
        return Problem(profile.bad_key_status, "invalid_api_key", message, "authentication_error")
    problem = _KEY_PROBLEMS[key]
    if problem is None or (not buying and key != "sk-disabled"):
        return None
    if key == "sk-broke" and switches.balance_status != 402:
        return Problem(
            switches.balance_status, "insufficient_user_quota", problem.message, problem.type
        )
    return problem


# Every form of Retry-After that the provider and compatible ones are known to send.
RETRY_FORMS: Mapping[str, Callable[[float, float], Headers]] = MappingProxyType(
    {
        "none": lambda _wait, _now: (),
        "int": lambda wait, _now: (("retry-after", str(int(wait) + 1)),),
        "float": lambda wait, _now: (("retry-after", f"{wait + 0.5:.1f}"),),
        "date": lambda wait, now: (("retry-after", formatdate(now + wait + 1, usegmt=True)),),
        "ms": lambda wait, _now: (("retry-after-ms", str(int(wait * 1000) + 1)),),
        "long": lambda _wait, _now: (("retry-after", "3600"),),
        "huge": lambda _wait, _now: (("retry-after", "1000000000"),),
        "garbage": lambda _wait, _now: (("retry-after", "soon"),),
    }
)
_ROTATION = ("none", "int", "float", "date", "ms", "long")


class Pace:
    """Requests of each key per minute, per second and at once; the switches set the limits."""

    def __init__(self) -> None:
        self._recent: dict[str, deque[float]] = {}
        self._running: dict[str, list[float]] = {}
        self._refusals = 0

    def check(self, key: str, switches: Switches, now: float, buying: bool) -> Problem | None:
        """Counts one request, or says why there are too many."""
        if switches.rpm is None and switches.burst is None and switches.concurrency is None:
            return None
        if not buying and not switches.polls_count:
            return None
        wait = self._wait(key, switches, now)
        if wait is None and buying:
            wait = self._concurrency_wait(key, switches, now)
        if wait is not None:
            return self._too_many(switches, wait, now)
        self._recent.setdefault(key, deque()).append(now)
        return None

    def started(self, key: str, finish_at: float) -> None:
        """Notes that a generation of this key runs until `finish_at`."""
        heapq.heappush(self._running.setdefault(key, []), finish_at)

    def headers(self, key: str, switches: Switches, now: float) -> Headers:
        """The rate limit headers that some compatible providers send, when switched on."""
        if not switches.ratelimit_headers or switches.rpm is None:
            return ()
        recent = self._recent.get(key, ())
        reset = max(0.0, 60 - (now - recent[0])) if recent else 0.0
        return (
            ("x-ratelimit-limit-requests", str(switches.rpm)),
            ("x-ratelimit-remaining-requests", str(max(0, switches.rpm - len(recent)))),
            ("x-ratelimit-reset-requests", f"{reset:.1f}s"),
        )

    def _wait(self, key: str, switches: Switches, now: float) -> float | None:
        recent = self._recent.setdefault(key, deque())
        while recent and recent[0] <= now - 60:
            recent.popleft()
        if switches.rpm is not None and len(recent) >= switches.rpm:
            return recent[-switches.rpm] + 60 - now if switches.rpm else 60.0
        if switches.burst is None or len(recent) < switches.burst:
            return None
        oldest = recent[-switches.burst] if switches.burst else now
        return oldest + 1 - now if oldest > now - 1 else None

    def _concurrency_wait(self, key: str, switches: Switches, now: float) -> float | None:
        running = self._running.get(key, [])
        while running and running[0] <= now:
            heapq.heappop(running)
        if switches.concurrency is None or len(running) < switches.concurrency:
            return None
        return running[0] - now if running else 1.0

    def _too_many(self, switches: Switches, wait: float, now: float) -> Problem:
        form = switches.retry_after_form
        if form == "rotate":
            form = _ROTATION[self._refusals % len(_ROTATION)]
        self._refusals += 1
        headers = RETRY_FORMS[form](wait, now)
        message = "rate limit reached for this key"
        return Problem(429, "rate_limit_exceeded", message, "rate_limit_error", headers=headers)
