"""Response headers about limits, the cache and what was changed."""

from collections.abc import Iterable, Mapping

from app.api.json_reader import SAFE_NAME
from app.domain.incomplete import incomplete
from app.domain.job import Job
from app.domain.limits import Allowance, Meter, Standing, Window
from app.domain.recall import CacheOutcome
from app.service.started import Started

ADJUSTED = "x-koi-adjusted"
MOST_NAMES = 20
UNKNOWN = "unknown"
WINDOW_S = {Window.MINUTE: 60, Window.DAY: 86_400}
"""Windows of fixed length; a month is not."""
METERS = (Meter.REQUESTS, Meter.IMAGES)


def limit_headers(standing: Standing) -> dict[str, str]:
    """OpenAI's `x-ratelimit-*` (openai-compat study, section 9) and the structured fields of
    draft-ietf-httpapi-ratelimit-headers-11, both for the allowance that will refuse first.
    The house's numbers are not told."""
    headers: dict[str, str] = {}
    policies: list[str] = []
    states: list[str] = []
    for meter in METERS:
        allowance = standing.tightest(meter)
        if allowance is None:
            continue
        headers[f"x-ratelimit-limit-{meter}"] = str(allowance.limit)
        headers[f"x-ratelimit-remaining-{meter}"] = str(allowance.remaining)
        headers[f"x-ratelimit-reset-{meter}"] = f"{allowance.reset_s}s"
        policies.append(_policy(allowance))
        states.append(f'"{_name(allowance)}";r={allowance.remaining};t={allowance.reset_s}')
    if policies:
        headers["ratelimit-policy"] = ", ".join(policies)
        headers["ratelimit"] = ", ".join(states)
    return headers


def _name(allowance: Allowance) -> str:
    return f"{allowance.meter}-{allowance.scope}-{allowance.window}"


def _policy(allowance: Allowance) -> str:
    policy = f'"{_name(allowance)}";q={allowance.limit};qu="{allowance.meter}"'
    window_s = WINDOW_S.get(allowance.window)
    return policy if window_s is None else f"{policy};w={window_s}"


def cache_headers(started: Started) -> dict[str, str]:
    """`x-koi-cache`, `Cache-Status` (RFC 9211) and, on a hit, `Age` (RFC 9111, section 5.1)."""
    headers = {"x-koi-cache": str(started.cache), "cache-status": _cache_status(started)}
    if started.cache is CacheOutcome.HIT:
        headers["age"] = str(started.age_s)
    return headers


def _cache_status(started: Started) -> str:
    if started.cache is CacheOutcome.HIT:
        return f"koi; hit; ttl={started.ttl_s}"
    if started.cache is CacheOutcome.JOINED:
        return "koi; fwd=uri-miss; collapsed"
    if started.cache is CacheOutcome.BYPASS:
        return "koi; fwd=bypass"
    return "koi; fwd=uri-miss; stored" if started.stored else "koi; fwd=uri-miss"


def with_shortfall(headers: Mapping[str, str], job: Job) -> dict[str, str]:
    """`x-koi-adjusted` with `n=3->1` when fewer images came than were asked for. An arrow in two
    ASCII letters: the one sign is outside of what a header may hold (RFC 9110, section 5.5)."""
    missing = incomplete(job)
    if missing is None:
        return dict(headers)
    adjusted = headers.get(ADJUSTED)
    entry = f"n={missing.asked}->{missing.delivered}"
    return {**headers, ADJUSTED: entry if adjusted is None else f"{adjusted}, {entry}"}


def adjusted_header(names: Iterable[str]) -> dict[str, str]:
    """`x-koi-adjusted`: fields coerced or ignored, bounded and safe to print."""
    safe: list[str] = []
    for name in names:
        shown = name if SAFE_NAME.fullmatch(name) else UNKNOWN
        if len(safe) == MOST_NAMES:
            shown = UNKNOWN
        if shown not in safe:
            safe.append(shown)
        if len(safe) > MOST_NAMES:
            break
    return {ADJUSTED: ", ".join(safe)} if safe else {}
