"""What a request finds when it arrives: the running gateway, and its own exchange record."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from starlette.requests import Request
from starlette.types import Scope

from app.api.settings import EdgeSettings
from app.api.waiting import Peer
from app.service.gateway import Gateway

PRESENT = "koi.present"
"""Where a connection tells its requests whether the caller is still there, in the scope."""
CUT = "koi.cut"
"""Where a connection lets its requests end it in the middle of an answer."""

Readiness = Callable[[], Awaitable[tuple[bool, dict[str, str]]]]


class EdgeMetrics(Protocol):
    """What the edge reports. Nothing here raises."""

    content_type: str

    def render(self) -> bytes: ...

    def observe_request(
        self,
        route: str,
        method: str,
        status: int,
        seconds: float,
        overhead_s: float | None,
        cache: str | None = None,
    ) -> None: ...

    def in_flight(self, delta: int) -> None: ...

    def refused(self, code: str) -> None: ...

    def steered(self) -> None: ...


class Running(Protocol):
    """An open gateway, as `app.wiring.open_gateway` yields it."""

    @property
    def gateway(self) -> Gateway: ...

    @property
    def edge(self) -> EdgeSettings: ...

    @property
    def metrics(self) -> EdgeMetrics: ...

    @property
    def readiness(self) -> Readiness:
        """Whether new work should come here, and a status word per part."""

    @property
    def alive(self) -> Callable[[], bool]: ...


@dataclass(slots=True)
class Exchange:
    """One request as its access line and metrics will tell it; filled in on the way.

    `started_s` is a monotonic clock; `upstream_s` the share spent on the provider, None while
    unknown; `waited` is true once the answer depended on somebody else's time. `verdict` is the
    true status of a failure that came after the status line was sent. `moderation` is the code by
    which this caller knows a refusal of its prompt. `reason` is why a key was refused, for the log
    alone.
    """

    request_id: str
    started_s: float
    deployment: str | None = None
    client_request_id: str | None = None
    status: int = 0
    verdict: int | None = None
    code: str | None = None
    user: str | None = None
    key_id: str | None = None
    reason: str | None = None
    task_id: str | None = None
    cache: str | None = None
    upstream_s: float | None = None
    waited: bool = False
    moderation: str = "content_policy_violation"
    held: list[Callable[[], None]] = field(default_factory=list)
    """Given back when the exchange is over, however it ended."""


def exchange_of(scope: Scope) -> Exchange:
    return cast(Exchange, scope["koi.exchange"])


def exchange(request: Request) -> Exchange:
    return exchange_of(request.scope)


def present(request: Request) -> bool:
    """Whether the caller is still there, as far as the server under us can tell."""
    return peer(request) is Peer.HERE


def peer(request: Request) -> Peer:
    look = cast(Callable[[], Peer] | None, request.scope.get(PRESENT))
    return Peer.HERE if look is None else look()


def cut(scope: Scope) -> None:
    """Hang up in the middle of the answer; another server than ours does so when it finds it
    unfinished."""
    hang_up = cast(Callable[[], None] | None, scope.get(CUT))
    if hang_up is not None:
        hang_up()


def running(request: Request) -> Running:
    return cast(Running, request.scope["state"]["running"])


def edge_of(scope: Scope) -> EdgeSettings:
    return cast(EdgeSettings, scope["state"]["edge"])


def edge(request: Request) -> EdgeSettings:
    return edge_of(request.scope)
