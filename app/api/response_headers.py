"""Response headers about limits, the cache and what was changed."""

from collections.abc import Iterable, Mapping

from starlette.requests import Request

from app.api.parameters import PRINTABLE_NAME
from app.domain.cache import CacheOutcome
from app.domain.job import Job, find_shortfall
from app.domain.limits import LimitKind, LimitSnapshot, LimitStatus, LimitWindow
from app.domain.money import format_micros
from app.service.generation import StartedJob

ADJUSTED_HEADER = "x-koi-adjusted"
COST_HEADER = "x-koi-cost"
FREE_HEADERS = {COST_HEADER: format_micros(0)}
"""Of pictures that the cache had, or that another caller's job was making."""
EXPOSED_HEADERS: Mapping[str, str] = {
    "age": "Seconds since the cached answer was made.",
    "cache-status": "What the cache did (RFC 9211).",
    "mcp-session-id": "Your session of the Model Context Protocol.",
    "ratelimit": "What is left of each policy (structured fields).",
    "ratelimit-policy": "The limits that bind this key.",
    "retry-after": "Seconds after which a repeat helps.",
    "retry-after-ms": "The same in milliseconds.",
    ADJUSTED_HEADER: "Fields that were coerced or ignored; n=3->1 when fewer pictures came.",
    "x-koi-cache": "hit, miss, joined or bypass.",
    COST_HEADER: "What the answer cost in the catalog's currency, where the price is known.",
    "x-koi-task-id": "The job behind the answer: GET /v1/tasks/{task_id}.",
    "x-ratelimit-limit-images": "Images that the tightest limit allows.",
    "x-ratelimit-limit-requests": "Requests that the tightest limit allows.",
    "x-ratelimit-remaining-images": "Images that are left.",
    "x-ratelimit-remaining-requests": "Requests that are left.",
    "x-ratelimit-reset-images": "When they are all there again, such as 12s.",
    "x-ratelimit-reset-requests": "When they are all there again, such as 1s.",
    "x-request-id": "This request, as the gateway's log calls it.",
    "x-should-retry": "Whether a repeat may help and costs nothing twice.",
}
"""Response headers that pages of other origins may read, and what each says."""
MAX_ADJUSTED_NAMES = 20
UNKNOWN_NAME = "unknown"
WINDOW_S = {LimitWindow.MINUTE: 60, LimitWindow.DAY: 86_400}
"""Seconds of the windows with a fixed length; a month has none."""
REPORTED_KINDS = (LimitKind.REQUESTS, LimitKind.IMAGES)


def build_limit_headers(limit_snapshot: LimitSnapshot) -> dict[str, str]:
    """OpenAI's `x-ratelimit-*` and the structured fields of
    draft-ietf-httpapi-ratelimit-headers-11, both for the limit that will refuse first. Limits of
    the whole deployment are not shown."""
    headers: dict[str, str] = {}
    policies: list[str] = []
    states: list[str] = []
    for kind in REPORTED_KINDS:
        status = limit_snapshot.tightest(kind)
        if status is None:
            continue
        headers[f"x-ratelimit-limit-{kind}"] = str(status.limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(status.remaining)
        headers[f"x-ratelimit-reset-{kind}"] = f"{status.reset_s}s"
        policies.append(_format_policy(status))
        states.append(f'"{_name_policy(status)}";r={status.remaining};t={status.reset_s}')
    if policies:
        headers["ratelimit-policy"] = ", ".join(policies)
        headers["ratelimit"] = ", ".join(states)
    return headers


def _name_policy(status: LimitStatus) -> str:
    return f"{status.kind}-{status.scope}-{status.window}"


def _format_policy(status: LimitStatus) -> str:
    policy = f'"{_name_policy(status)}";q={status.limit};qu="{status.kind}"'
    window_s = WINDOW_S.get(status.window)
    return policy if window_s is None else f"{policy};w={window_s}"


def build_cache_headers(started: StartedJob) -> dict[str, str]:
    """`x-koi-cache`, `Cache-Status` (RFC 9211) and, on a hit, `Age` (RFC 9111, section 5.1)."""
    headers = {"x-koi-cache": str(started.cache), "cache-status": _cache_status(started)}
    if started.cache is CacheOutcome.HIT:
        headers["age"] = str(started.age_s)
    return headers


def _cache_status(started: StartedJob) -> str:
    if started.cache is CacheOutcome.HIT:
        return f"koi; hit; ttl={started.ttl_s}"
    if started.cache is CacheOutcome.JOINED:
        return "koi; fwd=uri-miss; collapsed"
    if started.cache is CacheOutcome.BYPASS:
        return "koi; fwd=bypass"
    return "koi; fwd=uri-miss; stored" if started.stored else "koi; fwd=uri-miss"


def build_cost_header(job: Job) -> dict[str, str]:
    """`x-koi-cost`: decimal text, of a job that has ended and whose price is known."""
    if not job.ended or job.unit_micros is None:
        return {}
    return {COST_HEADER: format_micros(job.billed * job.unit_micros)}


def add_incomplete_header(headers: Mapping[str, str], job: Job) -> dict[str, str]:
    """`x-koi-adjusted` with `n=3->1` when fewer images came than were asked for. The arrow is two
    ASCII characters, because a header may hold no others (RFC 9110, section 5.5)."""
    missing = find_shortfall(job)
    if missing is None:
        return dict(headers)
    adjusted = headers.get(ADJUSTED_HEADER)
    entry = f"n={missing.asked}->{missing.delivered}"
    return {**headers, ADJUSTED_HEADER: entry if adjusted is None else f"{adjusted}, {entry}"}


def build_adjusted_header(names: Iterable[str]) -> dict[str, str]:
    """`x-koi-adjusted`: names of fields that were coerced or ignored, few and printable."""
    safe: list[str] = []
    for name in names:
        shown = name if PRINTABLE_NAME.fullmatch(name) else UNKNOWN_NAME
        if len(safe) == MAX_ADJUSTED_NAMES:
            shown = UNKNOWN_NAME
        if shown not in safe:
            safe.append(shown)
        if len(safe) > MAX_ADJUSTED_NAMES:
            break
    return {ADJUSTED_HEADER: ", ".join(safe)} if safe else {}


def is_unmodified(request: Request, etag: str) -> bool:
    """Whether the client has what `etag` names (RFC 9110, section 13.1.2: weak comparison, since a
    proxy that compresses marks the tags it passes on as weak)."""
    given = request.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return etag in tags or "*" in tags
