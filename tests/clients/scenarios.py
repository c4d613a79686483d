"""The faults that every client is led through, and what may come of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from app.domain.limits import Limits
from app.domain.principal import CachePolicy
from tests.harness import Koi

RATE_LIMIT = 60
"""Requests a minute that are spent before the call, so that the next place is a second away."""

HANG_UPS = 5
"""It is a race, so it is run by several at once."""


@dataclass(frozen=True)
class Scenario:
    """One fault. `switches` and `script` are the provider's, `settings` the gateway's, `limits`
    and `cache` the user's; `call` goes to the client. `pictures` in all calls, 0 when there can
    be none; `posts` and `bills` are the most that may happen."""

    name: str
    title: str
    pictures: int = 1
    posts: int = 1
    bills: int = 1
    switches: Mapping[str, Any] = field(default_factory=dict)
    script: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits | None = None
    cache: CachePolicy | None = None
    call: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 1
    before: Callable[[Koi, str], None] | None = None
    """Gets the gateway and the caller's key; what it costs is not counted."""


def always(fault: str, **switches: Any) -> dict[str, Any]:
    """Every POST meets this fault, however often somebody tries."""
    return {"fault_rate": 1.0, "fault_names": [fault], "latency_s": 0.2, **switches}


def _spend_the_quota(koi: Koi, key: str) -> None:
    with koi.client(key) as client:
        _ask(client, "the only picture of today").raise_for_status()


def _use_up_the_rate_limit(koi: Koi, key: str) -> None:
    """Until there is a refusal: tokens come back while they are spent."""
    with koi.client(key) as client:
        while _ask(client, "the same picture again").status_code != 429:
            pass


def _ask(client: httpx.Client, prompt: str) -> httpx.Response:
    body = {"model": "grok-imagine", "prompt": prompt}
    return client.post("/v1/images/generations", json=body)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("ok", "nothing happens", switches={"latency_s": 0.2}),
    Scenario("500", "provider 500", 0, bills=0, switches=always("500")),
    Scenario("502", "provider 502 (HTML)", 0, switches=always("502-html")),
    Scenario(
        "reset", "connection reset after acceptance", 0, switches=always("reset-after-accept")
    ),
    Scenario(
        "dead-link",
        "the picture's link is dead",
        0,
        switches=always("cdn-404"),
        settings={"sync_wait_s": 5},
    ),
    Scenario(
        "late",
        "dead link, told after heartbeats",
        0,
        switches=always("cdn-404", latency_s=2.0),
        settings={"sync_wait_s": 5, "heartbeat_after_s": 0.5},
    ),
    Scenario(
        "late-failure",
        "failed task, told after heartbeats",
        0,
        switches=always("task-failed", latency_s=2.0),
        settings={"heartbeat_after_s": 0.5},
    ),
    Scenario(
        "hasty", "timeout 0.5 s, job 3 s", call={"timeout_s": 0.5}, switches={"latency_s": 3.0}
    ),
    Scenario(
        "patient",
        "timeout 3 s, job 6 s",
        call={"timeout_s": 3},
        switches={"latency_s": 6.0},
        settings={"task_deadline_s": 20, "upstream_timeout_s": 15},
    ),
    Scenario("429", "provider 429 once", posts=2, script=("429=1",), switches={"latency_s": 0.2}),
    Scenario(
        "pace",
        "rate limit refusal, then a token",
        switches={"latency_s": 0.2},
        limits=Limits(requests_per_minute=RATE_LIMIT),
        before=_use_up_the_rate_limit,
    ),
    Scenario(
        "quota",
        "quota used up",
        0,
        posts=0,
        bills=0,
        limits=Limits(images_per_day=1),
        before=_spend_the_quota,
    ),
    Scenario("n3", "three pictures", 3, 3, 3, switches={"latency_s": 0.2}, call={"n": 3}),
    Scenario(
        "hang-up",
        "socket closed, repeated at once, cache off (five callers)",
        HANG_UPS,
        HANG_UPS,
        HANG_UPS,
        switches={"latency_s": 1.5},
        cache=CachePolicy.OFF,
        call={"hang_up_after_s": 0.4},
        calls=HANG_UPS,
    ),
    Scenario("moderation", "refused by moderation", 0, bills=0, switches=always("moderation-400")),
    Scenario(
        "parallel",
        "three calls at once, concurrency 1, jobs of 2 s",
        3,
        3,
        3,
        switches={"latency_s": 2.0},
        limits=Limits(concurrency=1),
        calls=3,
    ),
)
BY_NAME: Mapping[str, Scenario] = {scenario.name: scenario for scenario in SCENARIOS}
